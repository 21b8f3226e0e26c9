# SPDX-License-Identifier: Apache-2.0
"""metrics.csv, summary.csv and evaluation.json: every number, for software."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.evaluation.agreement import VolumeAgreement
from ProstateXferLib.evaluation.catalog import metric_of
from ProstateXferLib.evaluation.detection import Detection
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.method_comparison import MethodTest
from ProstateXferLib.evaluation.summaries import Summaries
from ProstateXferLib.files import write_text
from ProstateXferLib.metrics.picai import PicaiScore
from ProstateXferLib.pipelines.provenance import library_versions

METRICS_FILE, SUMMARY_FILE, JSON_FILE = "metrics.csv", "summary.csv", "evaluation.json"
JSON_FORMAT = "ProstateXfer evaluation 1"
METRICS_COLUMNS = ("case", "method", "structure", "component", "metric", "value", "unit", "reason")
SUMMARY_COLUMNS = (
    "method",
    "structure",
    "metric",
    "unit",
    "mean",
    "median",
    "sd",
    "ci95_low",
    "ci95_high",
    "n_used",
    "n_total",
    "n_of",
)
_FAILED = "failed"
# The whole evaluation in numbers; the report's figures need more than the files do.
_NOT_IN_JSON = ("means", "differences")


def write_metrics_csv(evaluation: Evaluation, path: Path) -> Path:
    """One row a case, method, structure, component and metric; a case that failed has one row with its sentence."""
    rows = []
    for number, result in enumerate(evaluation.results):
        for method in evaluation.options.methods:
            failure = result.methods[method].failure
            if failure:
                rows.append((result.case, method, "", "", _FAILED, "", "", failure))
            for v in evaluation.values(number, method):
                unit = metric_of(v.metric).unit
                row = (v.structure, v.component, v.metric, _cell(v.value), unit, v.reason)
                rows.append((result.case, method, *row))
    return _write(METRICS_COLUMNS, rows, path)


def write_summary_csv(summaries: Summaries, path: Path) -> Path:
    """One row a method, structure and metric; `n_of` says what was counted."""
    rows = []
    for row in summaries.rows:
        s = row.summary
        numbers = [_cell(value) for value in (s.mean, s.median, s.sd, s.low, s.high)]
        named = (row.method, row.structure, row.metric.key, row.metric.unit)
        rows.append((*named, *numbers, s.n_used, s.n_total, s.unit))
    return _write(SUMMARY_COLUMNS, rows, path)


def write_evaluation_json(
    evaluation: Evaluation,
    summaries: Summaries,
    *,
    agreements: Sequence[VolumeAgreement],
    found: Sequence[Detection],
    tests: Sequence[MethodTest],
    picai: PicaiScore | None,
    path: Path,
) -> Path:
    """Everything the other files have, with options, versions and the hashes of all inputs; NaN is null."""
    document = {
        "format": JSON_FORMAT,
        "research_use_only": True,
        "started_utc": evaluation.started_utc,
        "seconds": round(evaluation.seconds, 3),
        "versions": library_versions(),
        "options": evaluation.options.to_json(),
        "structures": evaluation.structures,
        "n_cases": evaluation.n_cases,
        "n_failed": evaluation.n_failed,
        "warnings": evaluation.warnings,
        "cases": [_case(evaluation, number) for number in range(evaluation.n_cases)],
        "summary": [
            {"method": r.method, "structure": r.structure, "metric": asdict(r.metric), **asdict(r.summary)}
            for r in summaries.rows
        ],
        "volume_agreement": agreements,
        "detection": found,
        "picai": picai,
        "comparison": [{"structure": t.structure, "metric": t.metric.key, **asdict(t.comparison)} for t in tests],
    }
    text = json.dumps(_json_value(document), indent=1, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def _case(evaluation: Evaluation, number: int) -> dict[str, Any]:
    """One case: its files, what failed, and its values by method and structure."""
    result, files = evaluation.results[number], evaluation.files[number].files
    methods: dict[str, Any] = {}
    for method in evaluation.options.methods:
        values = [
            {"structure": v.structure, "component": v.component, "metric": v.metric, "value": v.value}
            | ({"reason": v.reason} if v.reason else {})
            for v in evaluation.values(number, method)
        ]
        own = result.methods[method]
        methods[method] = {"failure": own.failure or None, "warnings": own.warnings, "values": values}
    inputs = {role: {"path": str(path), "sha256": result.sha256.get(role)} for role, path in files.items()}
    return {"case": result.case, "files": inputs, "methods": methods}


def _cell(value: float) -> str:
    """Ten digits, which no voxel has; what does not exist is an empty cell."""
    return "" if math.isnan(value) else f"{value:.10g}"


def _write(columns: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def _json_value(value: Any) -> Any:
    """The value in JSON's types; numbers that do not exist are null."""
    if is_dataclass(value) and not isinstance(value, type):
        fields = {name: field for name, field in vars(value).items() if name not in _NOT_IN_JSON}
        return _json_value(fields)
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
