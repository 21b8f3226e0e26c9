# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: tables first, then figures, files and methods, on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.evaluation.agreement import VolumeAgreement
from ProstateXferLib.evaluation.cell_text import number_text
from ProstateXferLib.evaluation.detection import Detection
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.method_comparison import MethodTest
from ProstateXferLib.evaluation.methods_text import methods_paragraphs
from ProstateXferLib.evaluation.report_figures import (
    agreement_figures,
    detection_figures,
    distribution_figures,
    histogram_figures,
)
from ProstateXferLib.evaluation.report_lesions import detection_tables, froc_table, picai_table
from ProstateXferLib.evaluation.report_tables import (
    comparison_table,
    extra_table,
    segmentation_tables,
    synthesis_table,
)
from ProstateXferLib.evaluation.summaries import Summaries
from ProstateXferLib.evaluation.worst_cases import WorstCase, worst_case_figures, worst_cases
from ProstateXferLib.metrics.picai import PicaiScore
from ProstateXferLib.progress import Progress, SubProgress, raise_if_cancelled
from ProstateXferLib.reports.page import Figure, Page, Table

DRAWING = "Drawing the report"
_MOST_FAILURES = 12
_KIND_TITLES = {"segmentation": "Segmentation", "sct": "Synthetic CT"}


@dataclass(frozen=True)
class Findings:
    """What was computed over the cohort, once for the files and the report."""

    summaries: Summaries
    agreements: Sequence[VolumeAgreement]
    detections: Sequence[Detection]
    tests: Sequence[MethodTest]
    picai: PicaiScore | None
    picai_problem: str


def evaluation_page(evaluation: Evaluation, findings: Findings, sources: dict[str, Path], progress: Progress) -> Page:
    """The whole page; raises `CancelledError` between figures when the user stops."""
    options = evaluation.options
    figures = _figures(evaluation, findings, progress)
    done = evaluation.n_cases - evaluation.n_failed
    return Page(
        title=f"{_KIND_TITLES[options.kind]} evaluation",
        subtitle=f"{' and '.join(options.methods)} against the reference, {done} of {evaluation.n_cases} cases",
        notes=methods_paragraphs(evaluation),
        warnings=_warnings(evaluation, findings),
        figures=figures,
        tables=_tables(evaluation, findings),
        provenance={
            **{name.replace("_", " ").capitalize(): str(path) for name, path in sources.items()},
            "Started": evaluation.started_utc,
            "Options": {name: value for name, value in options.to_json().items() if value != [] and value != {}},
            "Tables": "metrics.csv (every value), summary.csv, evaluation.json (with the SHA-256 of every input)",
        },
    )


def _tables(evaluation: Evaluation, findings: Findings) -> list[Table]:
    if evaluation.options.kind == "sct":
        tables = [synthesis_table(evaluation, findings.summaries), extra_table(evaluation, findings.summaries)]
    else:
        tables = segmentation_tables(evaluation, findings.summaries, findings.agreements)
        tables += [*detection_tables(findings.detections), froc_table(findings.detections)]
        if findings.picai is not None:
            tables.append(picai_table(findings.picai, evaluation.lesion_structures[0]))
    if findings.tests:
        tables.append(comparison_table(findings.tests))
    tables.append(_worst_table(evaluation, worst_cases(evaluation)))
    return [table for table in tables if table is not None]


def _worst_table(evaluation: Evaluation, worst: Sequence[WorstCase]) -> Table | None:
    if not worst:
        return None
    if evaluation.options.kind == "segmentation":
        keys = {"dice": 3, "hd95": 2, "assd": 2, "volume_reference": 2, "volume_prediction": 2, "centroid_distance": 2}
        header = ["Dice", "HD95", "ASSD", "Reference volume", "Predicted volume", "Centroid distance", "Structure"]
        units = ["", "mm", "mm", "cm³", "cm³", "mm", ""]
    else:
        keys = {"mae": 1, "me": 1, "psnr": 2, "ssim": 4, "ms_ssim": 4}
        header, units = ["MAE", "ME", "PSNR", "SSIM", "MS-SSIM", "Where"], ["HU", "HU", "dB", "", "", ""]
    rows = []
    for one in worst:
        values = [evaluation.column(one.method, one.structure, key)[one.number] for key in keys]
        cells = [number_text(value, decimals) for value, decimals in zip(values, keys.values(), strict=True)]
        rows.append([one.case, *cells, one.structure])
    method = f" of {worst[0].method}" if len(evaluation.options.methods) > 1 else ""
    return Table(f"Worst cases{method}", ["Case", *header], rows, "Worst first, by structure.", ["", *units])


def _figures(evaluation: Evaluation, findings: Findings, progress: Progress) -> list[Figure]:
    worst = worst_cases(evaluation)
    figures: list[Figure] = []
    plots = (
        lambda: distribution_figures(evaluation),
        lambda: agreement_figures(findings.agreements),
        lambda: detection_figures(evaluation, findings.detections),
        lambda: histogram_figures(evaluation) if evaluation.options.kind == "sct" else [],
    )
    total = len(plots) + len(worst)
    for number, plot in enumerate(plots):
        raise_if_cancelled(progress)
        progress.update(DRAWING, number / total)
        figures += plot()
    part = SubProgress(progress, len(plots) / total, 1.0)
    for number, figure in enumerate(worst_case_figures(evaluation, worst), start=1):
        raise_if_cancelled(progress)
        part.update(DRAWING, number / len(worst))
        figures.append(figure)
    return figures


def _warnings(evaluation: Evaluation, findings: Findings) -> list[str]:
    """What the reader must know before the numbers: failures first."""
    failures = [
        f"{case}{f' ({method})' if len(evaluation.options.methods) > 1 else ''}: {why}"
        for case, method, why in evaluation.failures
    ]
    told = []
    if failures:
        several = " for at least one method" if len(evaluation.options.methods) > 1 else ""
        told.append(f"{evaluation.n_failed} of {evaluation.n_cases} cases failed{several}; what failed is in no mean.")
    told += failures[:_MOST_FAILURES]
    if len(failures) > _MOST_FAILURES:
        told.append(f"… and {len(failures) - _MOST_FAILURES} more; metrics.csv has them all.")
    return [*told, *evaluation.warnings, *([findings.picai_problem] if findings.picai_problem else [])]
