# SPDX-License-Identifier: Apache-2.0
"""FROC: sensitivity over lesions against false positives per exam, as the confidence needed goes down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.lesion_detection import LesionDetection
from ProstateXferLib.metrics.lesions import detect_lesions
from ProstateXferLib.metrics.masks import Mask, foreground, mask_pair


@dataclass(frozen=True)
class FrocCurve:
    """One point per threshold, from the strictest to the laxest.

    `sensitivity` is NaN where the cohort has no lesion; `n_exams` includes those without one, which can only add false
    positives.
    """

    thresholds: tuple[float, ...]
    sensitivity: tuple[float, ...]
    false_positives_per_exam: tuple[float, ...]
    n_exams: int
    n_lesions: int

    def sensitivity_at(self, false_positives_per_exam: float) -> float:
        """The best sensitivity reached with at most so many false positives per exam; 0 where no point is so strict."""
        if not self.n_lesions:
            return math.nan
        reached = zip(self.sensitivity, self.false_positives_per_exam, strict=True)
        return max((value for value, cost in reached if cost <= false_positives_per_exam), default=0.0)

    def area(self, up_to: float) -> float:
        """Area under the curve from 0 to `up_to` false positives per exam, at most `up_to`; NaN without a lesion.

        SAP gives it up to 15, and up to 4 for lesions of at least 1 mL (J Bone Oncol 2026;57:100745; how it is
        integrated is not stated). Here: straight lines between the points, which keep the best sensitivity so far;
        from (0, 0) to the first point, and level beyond the last.
        """
        if not (math.isfinite(up_to) and up_to > 0):
            raise ProstateXferError(f"An area up to {up_to} false positives is impossible; give a number above zero.")
        if not self.n_lesions:
            return math.nan
        order = np.lexsort((self.sensitivity, self.false_positives_per_exam))
        cost = np.append(0.0, np.asarray(self.false_positives_per_exam)[order])
        value = np.maximum.accumulate(np.append(0.0, np.asarray(self.sensitivity)[order]))
        end = np.interp(up_to, cost, value)
        inside = cost < up_to
        return _area_below(np.append(cost[inside], up_to), np.append(value[inside], end))


def froc_curve(exams: Iterable[LesionDetection | Sequence[Sequence[float]]]) -> FrocCurve:
    """The curve of candidates with confidences: one point per confidence that occurs, from the highest.

    An exam is what `detect_lesions` returned, or a list of (is lesion, confidence, ...) in which a missed lesion has
    confidence 0, as picai_eval has them. Points are equal to picai_eval's, which in addition overwrites its last
    one with (sensitivity of the one before, infinitely many false positives).
    """
    lists = [exam.results if isinstance(exam, LesionDetection) else exam for exam in exams]
    results = np.array([result[:2] for exam in lists for result in exam], dtype=float).reshape(-1, 2)
    lesion, confidence = results[:, 0] > 0, results[:, 1]
    thresholds = np.unique(confidence[confidence > 0])[::-1]
    # Sorted upwards, the number of values from a threshold on is what lies to the right of it.
    found, false = np.sort(confidence[lesion]), np.sort(confidence[~lesion])
    detected = found.size - np.searchsorted(found, thresholds)
    wrong = false.size - np.searchsorted(false, thresholds)
    return _curve(thresholds, detected, wrong, len(lists), int(lesion.sum()))


def froc_of_maps(pairs: Iterable[tuple[Mask, Mask]], thresholds: Sequence[float], **rule: Any) -> FrocCurve:
    """The curve of probability maps (SAP): cut at every threshold anew, matched by the any-overlap rule.

    `pairs` are (reference mask, probability map), arrays (z, y, x) or images on one grid, and may come from a
    generator: one exam is in memory at a time. A voxel belongs to the prediction where its probability is at least
    the threshold; thresholds must be above zero. `rule` goes to `detect_lesions` (connectivity).
    """
    limits = np.sort(np.asarray(thresholds, dtype=float))[::-1]
    if not limits.size or not (limits > 0).all():
        raise ProstateXferError(
            "A FROC of probability maps needs thresholds, all above zero (0 would take all voxels)."
        )
    detected, wrong = np.zeros(limits.size, dtype=int), np.zeros(limits.size, dtype=int)
    exams = lesions = 0
    for reference, probability in pairs:
        reference_zyx, _ = mask_pair(reference, probability)
        probability_zyx = _array(probability)
        exams += 1
        for k, limit in enumerate(limits):
            exam = detect_lesions(reference_zyx, probability_zyx >= limit, **rule)
            detected[k] += exam.true_positives
            wrong[k] += exam.false_positives
        lesions += len(exam.lesions)
    return _curve(limits, detected, wrong, exams, lesions)


def _curve(thresholds: np.ndarray, detected: np.ndarray, wrong: np.ndarray, exams: int, lesions: int) -> FrocCurve:
    """Counts per threshold as rates."""
    sensitivity = detected / lesions if lesions else np.full(len(thresholds), math.nan)
    per_exam = wrong / exams if exams else np.zeros(len(thresholds))
    return FrocCurve(tuple(thresholds.tolist()), tuple(sensitivity.tolist()), tuple(per_exam.tolist()), exams, lesions)


def _array(probability: Mask) -> np.ndarray:
    """The voxels (z, y, x) of a map of numbers."""
    foreground(probability, "probability map")
    return sitk.GetArrayFromImage(probability) if isinstance(probability, sitk.Image) else np.asarray(probability)


def _area_below(x: np.ndarray, y: np.ndarray) -> float:
    """Area under straight lines; numpy's own function changed its name in NumPy 2."""
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())
