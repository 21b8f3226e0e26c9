# SPDX-License-Identifier: Apache-2.0
"""The tables of lesion detection: over all lesions and exams, and by the volume of the lesion."""

from collections.abc import Iterator, Sequence

from ProstateXferLib.evaluation.cell_text import mean_median_text, number_text, share_text, used_text
from ProstateXferLib.evaluation.detection import Detection
from ProstateXferLib.metrics.detection_summary import DetectionSummary
from ProstateXferLib.metrics.picai import PicaiScore
from ProstateXferLib.metrics.statistics import Summary
from ProstateXferLib.reports.page import Table

_COSTS = (0.1, 0.5, 1.0, 2.0)
_AREAS = (4.0, 15.0)


def detection_tables(found: Sequence[Detection]) -> list[Table]:
    """Three tables for each lesion structure, the methods below each other."""
    tables = []
    for structure in dict.fromkeys(one.structure for one in found):
        ours = [one for one in found if one.structure == structure]
        tables += [_stratum_table(structure, ours), _pooled_table(structure, ours), _per_exam_table(structure, ours)]
    return tables


def picai_table(score: PicaiScore, structure: str) -> Table:
    """The challenge's own figures."""
    values = [number_text(value, 3) for value in (score.auroc, score.average_precision, score.score)]
    return Table(
        f"{structure}: PI-CAI's score",
        ["Confidences", "AUROC", "AP", "Score", "Exams", "With a lesion", "Lesions"],
        [["detection maps", *values, str(score.n_exams), str(score.n_positive), str(score.n_lesions)]],
        f"By picai_eval {score.version}: AUROC over exams, AP over lesions (IoU ≥ 0.10), score is the mean of both.",
    )


def froc_table(found: Sequence[Detection]) -> Table | None:
    """Sensitivity at given false positives per exam, and the area, of every curve; None without confidences."""
    curves = [one for one in found if one.curve is not None]
    if not curves:
        return None
    rows = [
        [
            f"{one.structure}, {one.method}",
            *(share_text(one.curve.sensitivity_at(cost)) for cost in _COSTS),
            *(number_text(one.curve.area(cost), 2) for cost in _AREAS),
            str(one.curve.n_lesions),
            f"{one.curve.n_exams} of {one.n_cases}",
        ]
        for one in curves
    ]
    return Table(
        "FROC of the confidences",
        ["Lesions", *(f"At {cost:g}" for cost in _COSTS), *(f"Area to {cost:g}" for cost in _AREAS), "Lesions", "Used"],
        rows,
        "Sensitivity at so many false positives per exam at most, and area under the curve up to so many (as SAP gives "
        "it: at most 4 and 15). Any-overlap rule.",
        ["", *["false / exam"] * (len(_COSTS) + len(_AREAS)), "", "exams"],
    )


def _stratum_table(structure: str, found: Sequence[Detection]) -> Table:
    rows = []
    for one in found:
        for stratum in one.strata:
            name = stratum.stratum.name
            title = f"{name.capitalize()} ({stratum.stratum.label})"
            rows.append(
                [
                    f"{title}, {one.method}" if len(found) > 1 else title,
                    f"{stratum.n_detected} of {stratum.n_lesions}",
                    share_text(stratum.sensitivity),
                    number_text(stratum.false_positives_per_exam, 2),
                    share_text(stratum.precision),
                    *_dice_cells(one.stratum_dice[name]),
                    mean_median_text(one.stratum_distance[name], 2),
                    used_text(one.stratum_distance[name]),
                ]
            )
    return Table(
        f"{structure} by lesion volume",
        [
            "Volume",
            "Detected",
            "Sensitivity",
            "False",
            "Precision",
            "Dice",
            "Dice",
            "Used",
            "Centroids",
            "Used",
        ],
        rows,
        f"Lesions of {_exams(found)} by their volume in the reference, false positives by their own. A lesion is "
        "detected when a predicted voxel lies in it. Dice is of the lesion with what touches it, 0 where it was "
        "missed; the distance between centroids, mean (median), is to the component that shares most voxels, "
        "else to the nearest, and does not exist where nothing was predicted.",
        ["", "lesions", "", "per exam", "", "mean", "median", "lesions", "mm apart", "lesions"],
    )


def _exams(found: Sequence[Detection]) -> str:
    """How many of how many exams each method was counted over."""
    several = len(found) > 1
    counts = [(next(iter(one.summaries.values())).n_exams, one) for one in found]
    told = [f"{n} of {one.n_cases} exams{f' ({one.method})' if several else ''}" for n, one in counts]
    return " and ".join(told)


def _dice_cells(summary: Summary) -> list[str]:
    return [number_text(summary.mean, 3), number_text(summary.median, 3), used_text(summary)]


def _pooled_table(structure: str, found: Sequence[Detection]) -> Table:
    rows = [
        [
            title,
            f"{s.n_detected} of {s.n_lesions}",
            share_text(s.pooled_sensitivity),
            share_text(s.pooled_precision),
            number_text(s.pooled_f_beta, 3),
            str(s.n_false_positives),
            number_text(s.false_positives_per_exam, 2),
            f"{s.n_exams} of {one.n_cases}",
        ]
        for one, title, s in _summaries(found)
    ]
    return Table(
        f"{structure}: detection, all lesions together",
        ["Rule", "Detected", "Sensitivity", "Precision", "F2", "False", "False", "Used"],
        rows,
        "From the sums over all exams; exams without a lesion count for the false positives. "
        "F2 = 5 TP / (5 TP + 4 FN + FP).",
        ["", "lesions", "", "", "", "positives", "per exam", "exams"],
    )


def _per_exam_table(structure: str, found: Sequence[Detection]) -> Table:
    rows = []
    for one, title, s in _summaries(found):
        cells = [(_median(part), f"{part.n_used} of {one.n_cases}") for part in (s.sensitivity, s.precision, s.f_beta)]
        rows.append([title, *(cell for pair in cells for cell in pair)])
    return Table(
        f"{structure}: detection, exam by exam",
        ["Rule", "Sensitivity", "Used", "Precision", "Used", "F2", "Used"],
        rows,
        "Medians over the exams with their 95 % bootstrap interval. An exam without a lesion has no sensitivity, one "
        "without a finding no precision, and one with neither no F2.",
        ["", *["median (95 % CI)", "exams"] * 3],
    )


def _summaries(found: Sequence[Detection]) -> Iterator[tuple[Detection, str, DetectionSummary]]:
    """Each rule of each method, with the title of its row."""
    for one in found:
        for title, summary in one.summaries.items():
            yield one, f"{title}, {one.method}" if len(found) > 1 else title, summary


def _median(summary: Summary) -> str:
    if not summary.n_used:
        return "–"
    interval = f"{number_text(summary.low, 2)} to {number_text(summary.high, 2)}"
    return f"{number_text(summary.median, 2)} ({interval})"
