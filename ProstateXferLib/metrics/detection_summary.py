# SPDX-License-Identifier: Apache-2.0
"""Detection over a cohort: of all lesions together, and exam by exam."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ProstateXferLib.metrics.lesion_detection import LesionDetection
from ProstateXferLib.metrics.statistics import Statistic, Summary, summarize


@dataclass(frozen=True, kw_only=True)
class DetectionSummary:
    """Counts of all exams, rates over all lesions, and the same rates exam by exam.

    `pooled_*` are from the summed counts (NaN without a denominator). `sensitivity`, `precision` and `f_beta` summarize
    one value per exam and leave out exams where it does not exist (sensitivity of an exam without a lesion), which
    their `n_used` of `n_total` says; `false_positives` has a value for every exam.
    """

    n_exams: int
    n_lesions: int
    n_detected: int
    n_false_positives: int
    false_positives_per_exam: float
    pooled_sensitivity: float
    pooled_precision: float
    pooled_f_beta: float
    beta: float
    sensitivity: Summary
    precision: Summary
    f_beta: Summary
    false_positives: Summary


def summarize_detection(
    exams: Iterable[LesionDetection],
    *,
    beta: float = 2.0,
    min_volume_cm3: float | None = None,
    interval_of: Statistic = "median",
) -> DetectionSummary:
    """Sensitivity, false positives per exam, precision and F-beta of a cohort.

    SAP reports medians over patients (hence the interval of the median) of sensitivity, precision and F2, and false
    positives per exam, for all lesions and, with `min_volume_cm3=1`, for those of at least 1 mL
    (J Bone Oncol 2026;57:100745, evaluation section).
    """
    every = [exam if min_volume_cm3 is None else exam.above(min_volume_cm3) for exam in exams]
    lesions = sum(len(exam.lesions) for exam in every)
    detected = sum(exam.true_positives for exam in every)
    false = sum(exam.false_positives for exam in every)
    weighted = (1 + beta**2) * detected
    denominator = weighted + beta**2 * (lesions - detected) + false

    def per_exam(values: Iterable[float]) -> Summary:
        return summarize(values, interval_of=interval_of, unit="exams")

    return DetectionSummary(
        n_exams=len(every),
        n_lesions=lesions,
        n_detected=detected,
        n_false_positives=false,
        false_positives_per_exam=false / len(every) if every else math.nan,
        pooled_sensitivity=detected / lesions if lesions else math.nan,
        pooled_precision=detected / (detected + false) if detected + false else math.nan,
        pooled_f_beta=weighted / denominator if denominator else math.nan,
        beta=beta,
        sensitivity=per_exam(exam.sensitivity for exam in every),
        precision=per_exam(exam.precision for exam in every),
        f_beta=per_exam(exam.f_beta(beta) for exam in every),
        false_positives=per_exam(exam.false_positives for exam in every),
    )
