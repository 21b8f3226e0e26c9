# SPDX-License-Identifier: Apache-2.0
"""Candidates from the `metrics.csv` that `prostatexfer evaluate` writes, one file (or folder of it) a candidate.

What stands for a value that is not there, so that every candidate has a number for every case:

| the table says             | Dice, NSD         | HD95, MASD                                  | volume error          |
|----------------------------|-------------------|---------------------------------------------|-----------------------|
| both masks empty           | 1                 | 0 mm                                        | as measured (0)       |
| one mask empty             | 0                 | as measured (`--empty penalty`: the image's | as measured           |
|                            |                   | diagonal), else `worst_distance_mm`         |                       |
| no result: the case failed | `missing="refuse"`: an error; "drop": the case is left out for every candidate;  |
| or is not in the file      | "worst": 0, `worst_distance_mm`, the reference's volume, as an empty prediction  |

PANTHER gives a miss the image's diagonal, too (papers.md 004). Nothing is filled in that the caller did not state.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ProstateXferLib.ensembles.candidate_table import CandidateTable
from ProstateXferLib.ensembles.case_metrics import METRICS, CaseMetrics
from ProstateXferLib.errors import ProstateXferError

Missing = Literal["refuse", "drop", "worst"]

METRICS_FILE = "metrics.csv"
_COLUMNS = ("case", "method", "structure", "component", "metric", "value", "reason")
_WHOLE = "0"
_BOTH_EMPTY = "both empty"
_NSD, _REFERENCE_VOLUME = "nsd_", "volume_reference"


@dataclass(frozen=True, kw_only=True)
class ReadingRules:
    """What of the tables counts, and what stands for values that they lack (see the module).

    Attributes:
        structure: name as in the tables.
        tolerance_mm: which NSD; None takes the only one there is. PANTHER takes 5 mm.
        methods: candidate -> method of its table, where the table compares two.
        missing: what happens to a case without a result.
        worst_distance_mm: what stands for the distance from or to an empty mask; no measured one may be larger.
    """

    structure: str
    tolerance_mm: float | None = None
    methods: Mapping[str, str] | None = None
    missing: Missing = "refuse"
    worst_distance_mm: float | None = None

    def __post_init__(self) -> None:
        if self.missing not in get_args(Missing):
            raise ProstateXferError(f"missing='{self.missing}' is unknown; use one of {', '.join(get_args(Missing))}.")
        worst = self.worst_distance_mm
        if worst is not None and not (math.isfinite(worst) and worst > 0):
            raise ProstateXferError(f"A worst distance of {worst} mm is impossible: give the image's diagonal.")
        if self.missing == "worst" and worst is None:
            raise ProstateXferError("missing='worst' needs worst_distance_mm: give the images' diagonal in mm.")


@dataclass(frozen=True)
class _Cell:
    """One value of a table (NaN: none) and why there is none."""

    value: float
    reason: str


_Cells = dict[str, dict[str, _Cell]]
"""case -> metric -> cell; a case that failed has no cells."""


def read_candidates(files: Mapping[str, Path], rules: ReadingRules) -> CandidateTable:
    """The metrics of one structure, whole, by every candidate; cases in the order of their names.

    Args:
        files: candidate's name -> its metrics.csv, or the folder that `prostatexfer evaluate` wrote.
        rules: what counts.

    Raises:
        ProstateXferError: a file that is no such table, a structure or NSD it does not have, values missing for which
            no rule was given.
    """
    tables = {name: _table(name, Path(path), rules) for name, path in files.items()}
    cases = sorted({case for table in tables.values() for case in table})
    lacking = {case: [name for name, table in tables.items() if not table.get(case)] for case in cases}
    without = tuple(case for case in cases if lacking[case])
    if without and rules.missing == "refuse":
        raise ProstateXferError(
            f"'{lacking[without[0]][0]}' has no result of the case '{without[0]}' ({len(without)} such cases): "
            f"evaluate all candidates on the same cases, or choose whether those are dropped or count as missed."
        )
    used = [case for case in cases if rules.missing != "drop" or case not in without]
    if not used:
        raise ProstateXferError("No case has results of all candidates: evaluate them on the same cases.")
    volumes = {case: _reference_volume(case, tables) for case in used if lacking[case]}
    found = {}
    for name, table in tables.items():
        rows = [_row(name, case, table.get(case), rules, volumes.get(case, math.nan)) for case in used]
        found[name] = CaseMetrics(tuple(used), np.array(rows))
    _check_worst(found, rules)
    return CandidateTable(found, without if rules.missing == "drop" else ())


def _row(
    name: str, case: str, cells: dict[str, _Cell] | None, rules: ReadingRules, reference_cm3: float
) -> list[float]:
    """The five numbers of one case; `reference_cm3` is what an empty prediction is wrong by."""
    if not cells:
        return [0.0, 0.0, rules.worst_distance_mm, rules.worst_distance_mm, reference_cm3]
    row = []
    for metric in METRICS:
        cell = cells.get(metric.key, _Cell(math.nan, ""))
        value = cell.value
        if math.isnan(value) and cell.reason == _BOTH_EMPTY:
            value = 1.0 if metric.higher_is_better else 0.0
        elif math.isnan(value) and cell.reason.endswith("empty") and not metric.higher_is_better:
            if rules.worst_distance_mm is None:
                raise ProstateXferError(
                    f"'{name}' has no {metric.title} of the case '{case}' ({cell.reason}): evaluate with --empty "
                    f"penalty, or state the worst distance."
                )
            value = rules.worst_distance_mm
        if math.isnan(value):
            raise ProstateXferError(f"'{name}' has no {metric.title} of the case '{case}': evaluate it again.")
        row.append(value)
    return row


def _reference_volume(case: str, tables: Mapping[str, _Cells]) -> float:
    """Volume of the case's reference, cm³, from any candidate that has a result."""
    for table in tables.values():
        cell = table.get(case, {}).get(_REFERENCE_VOLUME)
        if cell is not None and not math.isnan(cell.value):
            return cell.value
    raise ProstateXferError(f"No candidate has a result of the case '{case}', so its volume is unknown: drop it.")


def _check_worst(found: Mapping[str, CaseMetrics], rules: ReadingRules) -> None:
    """A worst distance that a measured one exceeds would reward a miss."""
    largest_mm = max(float(metrics.values[:, 2:4].max()) for metrics in found.values())
    if rules.worst_distance_mm is not None and largest_mm > rules.worst_distance_mm:
        raise ProstateXferError(
            f"A distance of {largest_mm:g} mm was measured, and {rules.worst_distance_mm:g} mm stands for a miss, "
            f"which must be worse: give the images' diagonal."
        )


def _table(name: str, path: Path, rules: ReadingRules) -> _Cells:
    """The cells of one candidate's structure; the key of the wanted NSD becomes that of METRICS."""
    path = path / METRICS_FILE if path.is_dir() else path
    rows = _rows(path)
    method = _method(name, path, rows, rules)
    rows = [row for row in rows if row["method"] == method]
    nsd = _nsd_key(path, rows, rules)
    # A case that failed has one row, of no structure: it stays without cells.
    cells: _Cells = {row["case"]: {} for row in rows}
    for row in rows:
        if row["structure"] == rules.structure and row["component"] == _WHOLE:
            key = "nsd" if row["metric"] == nsd else row["metric"]
            cells[row["case"]][key] = _Cell(_number(row["value"], path), row["reason"])
    if not any(cells.values()):
        known = sorted({row["structure"] for row in rows} - {""})
        raise ProstateXferError(
            f"'{path}' has no structure '{rules.structure}': use one of {', '.join(known) or 'none'}."
        )
    return cells


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or ()
            rows = list(reader) if set(_COLUMNS) <= set(header) else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProstateXferError(
            f"'{path}' cannot be read as a table ({error}): give an evaluation's folder."
        ) from error
    # A row that is too short has None in its last columns, one that is too long a key of None.
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ProstateXferError(
            f"'{path}' is no whole {METRICS_FILE} of an evaluation: make it with 'prostatexfer evaluate'."
        )
    return rows


def _method(name: str, path: Path, rows: list[dict[str, str]], rules: ReadingRules) -> str:
    there = sorted({row["method"] for row in rows})
    wanted = (rules.methods or {}).get(name, there[0] if len(there) == 1 else "")
    if wanted not in there:
        raise ProstateXferError(f"'{path}' has the methods {', '.join(there)}: say which of them is '{name}'.")
    return wanted


def _nsd_key(path: Path, rows: list[dict[str, str]], rules: ReadingRules) -> str:
    there = sorted({row["metric"] for row in rows if row["metric"].startswith(_NSD)})
    wanted = there[0] if len(there) == 1 else ""
    if rules.tolerance_mm is not None:
        wanted = f"{_NSD}{rules.tolerance_mm:g}mm"
    if wanted not in there:
        raise ProstateXferError(f"'{path}' has {', '.join(there) or 'no NSD'}: choose the tolerance among them.")
    return wanted


def _number(text: str, path: Path) -> float:
    """The number of a cell; an empty cell is NaN."""
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise ProstateXferError(f"'{path}' has '{text}' where a number belongs: evaluate again.") from error
