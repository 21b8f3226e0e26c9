# SPDX-License-Identifier: Apache-2.0
"""SAP's figures of lesion detection from the files that `prostatexfer evaluate` wrote: nothing is measured anew."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.tables import JSON_FILE, METRICS_COLUMNS, METRICS_FILE
from ProstateXferLib.metrics.agreement import icc_a1
from ProstateXferLib.metrics.froc import FrocCurve

TARGET_CM3 = 1.0
"""SAP's target lesions: 1 mL or more."""
FROC_UP_TO = 15.0
"""False positives per exam up to which SAP gives the area under the FROC."""

FIGURES = {
    "sensitivity": "Lesion sensitivity of an exam, median",
    "precision": "Lesion precision of an exam, median",
    "false_positives": "False positives of an exam, median",
    "f2": "F2 of an exam, median",
    "target_sensitivity": f"Sensitivity for lesions of at least {TARGET_CM3:g} cm³, median",
    "dice_detected": "Dice of detected lesions, median over lesions",
    "dice_lesions": "Mean lesion Dice of an exam, missed ones 0, median",
    "dice_case": "Dice of all lesions of an exam together, median",
    "dice_pooled": "Dice of all voxels of all exams together",
    "icc": "ICC(A,1) of the tumour volume of an exam",
    "froc_area": f"Area under the FROC up to {FROC_UP_TO:g} false positives per exam",
}
"""Key -> what it is, in the order of the table."""


@dataclass(frozen=True)
class Figure:
    """A number and how many exams (lesions for "dice_detected") it is of; NaN of 0 where there is none."""

    value: float
    count: int


@dataclass
class _Exam:
    whole: dict[str, float] = field(default_factory=dict)
    lesions: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))


def read_lesion_figures(folder: Path, structure: str = "") -> dict[str, Figure]:
    """The figures of one evaluated model, by the keys of `FIGURES`.

    Exams in which a figure does not exist (sensitivity without a lesion) are left out of it. The area needs an
    evaluation with `--confidences`.

    Args:
        folder: what `prostatexfer evaluate` wrote, of one method.
        structure: the lesions' name; may be left out where the evaluation has one lesion structure.

    Raises:
        ProstateXferError: no such files, several methods, or no such lesions.
    """
    rows = _rows(folder / METRICS_FILE)
    methods = sorted({row["method"] for row in rows})
    if len(methods) != 1:
        raise ProstateXferError(
            f"'{folder}' holds {len(methods)} methods ({', '.join(methods)}): evaluate each into a folder of its own."
        )
    structure = _lesion_structure(rows, structure, folder)
    exams = _exams([row for row in rows if row["structure"] == structure])
    figures = _of_exams(exams)
    figures["froc_area"] = _froc_area(folder / JSON_FILE, structure)
    return {key: figures[key] for key in FIGURES}


def _of_exams(exams: Sequence[_Exam]) -> dict[str, Figure]:
    lesions = [lesion for exam in exams for lesion in exam.lesions.values()]
    per_exam = [[lesion["lesion_dice"] for lesion in exam.lesions.values()] for exam in exams]
    figures = {
        key: _median([exam.whole[metric] for exam in exams])
        for key, metric in (
            ("sensitivity", "lesion_sensitivity"),
            ("precision", "lesion_precision"),
            ("false_positives", "false_positives"),
            ("f2", "f2"),
            ("dice_case", "dice"),
        )
    }
    figures["target_sensitivity"] = _median([_target_sensitivity(exam) for exam in exams])
    figures["dice_detected"] = _median([lesion["lesion_dice"] for lesion in lesions if lesion["lesion_detected"]])
    figures["dice_lesions"] = _median([float(np.mean(values)) if values else math.nan for values in per_exam])
    volumes = np.array([[exam.whole["volume_reference"], exam.whole["volume_prediction"]] for exam in exams])
    both = volumes.sum(axis=1)
    overlap = np.array([exam.whole["dice"] for exam in exams])[both > 0] @ both[both > 0]
    figures["dice_pooled"] = Figure(float(overlap / both.sum()) if both.any() else math.nan, len(exams))
    icc = icc_a1(volumes[:, 0].tolist(), volumes[:, 1].tolist())
    figures["icc"] = Figure(icc.value, icc.n_used)
    return figures


def _target_sensitivity(exam: _Exam) -> float:
    found = [lesion["lesion_detected"] for lesion in exam.lesions.values() if lesion["lesion_volume"] >= TARGET_CM3]
    return float(np.mean(found)) if found else math.nan


def _median(values: Sequence[float]) -> Figure:
    existing = [value for value in values if not math.isnan(value)]
    return Figure(float(np.median(existing)) if existing else math.nan, len(existing))


def _lesion_structure(rows: Sequence[Mapping[str, str]], wanted: str, folder: Path) -> str:
    found = sorted({row["structure"] for row in rows if row["metric"] == "lesion_sensitivity"})
    if wanted in found or (not wanted and len(found) == 1):
        return wanted or found[0]
    named = f"no lesions '{wanted}'" if wanted else f"{len(found)} lesion structures"
    raise ProstateXferError(
        f"'{folder}' has {named} (its lesions: {', '.join(found) or 'none'}): name one with --structure."
    )


def _exams(rows: Sequence[Mapping[str, str]]) -> list[_Exam]:
    exams: dict[str, _Exam] = defaultdict(_Exam)
    for row in rows:
        exam, component = exams[row["case"]], int(row["component"])
        values = exam.lesions[component] if component else exam.whole
        values[row["metric"]] = float(row["value"]) if row["value"] else math.nan
    return list(exams.values())


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except OSError as error:
        raise ProstateXferError(
            f"'{path}' cannot be read ({error.strerror}): give a folder that `prostatexfer evaluate` wrote."
        ) from error
    if tuple(reader.fieldnames or ()) != METRICS_COLUMNS or not rows:
        raise ProstateXferError(f"'{path}' is no table of `prostatexfer evaluate`: write it anew with this version.")
    return rows


def _froc_area(path: Path, structure: str) -> Figure:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["detection"]
    except (OSError, ValueError, KeyError) as error:
        raise ProstateXferError(f"'{path}' is missing or damaged: evaluate anew.") from error
    curve = next((entry["curve"] for entry in found if entry["structure"] == structure), None)
    if curve is None:
        return Figure(math.nan, 0)
    points = {key: tuple(value) if isinstance(value, list) else value for key, value in curve.items()}
    return Figure(FrocCurve(**points).area(FROC_UP_TO), curve["n_exams"])
