# SPDX-License-Identifier: Apache-2.0
"""Detection over the cohort: tables of both rules, by stratum, and the curves that confidences allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from ProstateXferLib.evaluation.case_result import LesionExam
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.metrics.detection_summary import DetectionSummary, summarize_detection
from ProstateXferLib.metrics.froc import FrocCurve, froc_curve
from ProstateXferLib.metrics.lesion_strata import StratumDetection, detection_by_stratum, summarize_by_stratum
from ProstateXferLib.metrics.statistics import Summary


@dataclass(frozen=True)
class Detection:
    """What became of the lesions of one structure under one method.

    Attributes:
        summaries: by the title of the table's row.
        strata: sensitivity, precision and false positives by lesion volume (any-overlap rule).
        stratum_dice, stratum_distance: Dice and centroid distance of the lesions by stratum name.
        point: (false positives per exam, sensitivity) of the label maps (any-overlap rule).
        curve: of the confidences; None without them.
        n_without_confidence: exams that could not be in the curve.
        n_cases: all cases of the cohort, those included that failed and are in none of the above.
    """

    method: str
    structure: str
    summaries: dict[str, DetectionSummary]
    strata: list[StratumDetection]
    stratum_dice: dict[str, Summary]
    stratum_distance: dict[str, Summary]
    point: tuple[float, float]
    curve: FrocCurve | None
    n_without_confidence: int
    n_cases: int


def detections(evaluation: Evaluation) -> list[Detection]:
    """For each lesion structure and method."""
    return [
        _detection(evaluation, method, structure)
        for structure in evaluation.lesion_structures
        for method in evaluation.options.methods
    ]


def _detection(evaluation: Evaluation, method: str, structure: str) -> Detection:
    options = evaluation.options
    exams = evaluation.exams(method, structure)
    by_overlap, picai = [exam.any_overlap for exam in exams], [exam.picai for exam in exams]
    least = options.target_lesion_cm3
    summaries = {
        "Any overlap": summarize_detection(by_overlap),
        f"Any overlap, ≥ {least:g} cm³": summarize_detection(by_overlap, min_volume_cm3=least),
        "IoU ≥ 0.10 (PI-CAI)": summarize_detection(picai),
    }
    whole = next(iter(summaries.values()))
    volumes = evaluation.lesions(method, structure, "lesion_volume")
    by_stratum = [
        summarize_by_stratum(volumes, evaluation.lesions(method, structure, metric), options.strata)
        for metric in ("lesion_dice", "lesion_centroid_distance")
    ]
    with_confidence = [exam for exam in exams if exam.detected]
    return Detection(
        method,
        structure,
        summaries,
        detection_by_stratum(by_overlap, options.strata),
        *by_stratum,
        (whole.false_positives_per_exam, whole.pooled_sensitivity),
        _curve(with_confidence, options.thresholds) if with_confidence else None,
        len(exams) - len(with_confidence),
        evaluation.n_cases,
    )


def _curve(exams: Sequence[LesionExam], thresholds: Sequence[float]) -> FrocCurve:
    """Exact where all are detection maps; cut at the thresholds where one holds probabilities."""
    if all(exam.confident is not None for exam in exams):
        return froc_curve([exam.confident for exam in exams])
    order = sorted(range(len(thresholds)), key=lambda k: -thresholds[k])
    lesions = sum(len(exam.any_overlap.lesions) for exam in exams)
    found = [sum(exam.detected[k] for exam in exams) for k in order]
    false = [sum(exam.false[k] for exam in exams) for k in order]
    return FrocCurve(
        tuple(thresholds[k] for k in order),
        tuple(count / lesions if lesions else float("nan") for count in found),
        tuple(count / len(exams) for count in false),
        len(exams),
        lesions,
    )
