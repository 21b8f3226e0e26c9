# SPDX-License-Identifier: Apache-2.0
"""The lesions of one case: what was found, lesion by lesion, by label map and by confidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_result import WHOLE, LesionExam, Value
from ProstateXferLib.evaluation.label_pair import LabelPair, on_grid
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.lesion_detection import LesionDetection
from ProstateXferLib.metrics.lesions import detect_lesions
from ProstateXferLib.metrics.masks import bounding_box

_MISSED = "the lesion was missed and nothing was predicted"


@dataclass(frozen=True, eq=False)
class Confidence:
    """Lesion confidences 0 to 1 (z, y, x) on the whole grid of a case.

    `per_component` is True for a detection map, whose components have one confidence each, and False for a map of
    probabilities.
    """

    voxels_zyx: np.ndarray
    per_component: bool


def read_confidence(path: Path, grid: Grid, *, resample: bool) -> Confidence:
    """A map of confidences on the reference's grid.

    Raises:
        ProstateXferError: values outside 0 to 1, or another grid.
    """
    image, _ = on_grid(read_image(path), grid, resample=resample, what="map of confidences")
    voxels = sitk.GetArrayFromImage(image).astype(np.float32)
    if not np.isfinite(voxels).all() or voxels.min() < 0 or voxels.max() > 1:
        raise ProstateXferError(f"'{path}' is no map of confidences: its values must be between 0 and 1.")
    components = components_by_volume(voxels > 0)[1]
    return Confidence(voxels, len(np.unique(voxels[voxels > 0])) <= components)


def lesion_exam(
    pair: LabelPair,
    reference_zyx: np.ndarray,
    prediction_zyx: np.ndarray,
    confidence: Confidence | None,
    thresholds: Sequence[float],
) -> LesionExam:
    """Detection in two bool arrays (z, y, x), the pair's box, and in the confidences where there are any."""
    spacing = pair.grid.spacing_zyx
    arguments = (reference_zyx, prediction_zyx)
    by_overlap, picai = (detect_lesions(*arguments, rule, spacing_zyx=spacing) for rule in ("any-overlap", "picai"))
    if confidence is None:
        return LesionExam(by_overlap, picai)
    truth, found = _around_both(pair, reference_zyx, confidence.voxels_zyx)
    confident = detect_lesions(truth, found, spacing_zyx=spacing) if confidence.per_component else None
    cuts = [detect_lesions(truth, found >= threshold, spacing_zyx=spacing) for threshold in thresholds]
    return LesionExam(
        by_overlap,
        picai,
        confident,
        tuple(cut.true_positives for cut in cuts),
        tuple(cut.false_positives for cut in cuts),
    )


def lesion_values(name: str, exam: LesionDetection) -> Iterator[Value]:
    """Rows of the exam, and of every reference lesion from the largest."""
    nothing = "no reference lesion"
    index = exam.lesions[0].centroid_distance_mm if exam.lesions else math.nan
    yield _row(name, "index_lesion_distance", index, _MISSED if exam.lesions else nothing)
    yield _row(name, "lesions_reference", float(len(exam.lesions)))
    yield _row(name, "lesions_detected", float(exam.true_positives))
    yield _row(name, "false_positives", float(exam.false_positives))
    yield _row(name, "lesion_sensitivity", exam.sensitivity, nothing)
    yield _row(name, "lesion_precision", exam.precision, "nothing was predicted")
    yield _row(name, "f2", exam.f_beta(2.0), "neither lesion nor finding")
    for lesion in exam.lesions:
        yield Value(name, lesion.number, "lesion_volume", lesion.volume_cm3)
        yield Value(name, lesion.number, "lesion_detected", float(lesion.detected))
        yield Value(name, lesion.number, "lesion_dice", lesion.dice)
        distance = lesion.centroid_distance_mm
        reason = _MISSED if math.isnan(distance) else ""
        yield Value(name, lesion.number, "lesion_centroid_distance", distance, reason)


def _row(name: str, metric: str, value: float, reason: str = "") -> Value:
    return Value(name, WHOLE, metric, value, reason if math.isnan(value) else "")


def _around_both(
    pair: LabelPair, reference_zyx: np.ndarray, confidence_zyx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reference and confidences in the smallest box that holds both."""
    truth = np.zeros(pair.grid.shape_zyx, dtype=bool)
    truth[pair.box] = reference_zyx
    box = bounding_box(truth | (confidence_zyx > 0)) or (slice(0, 1),) * 3
    return truth[box], np.ascontiguousarray(confidence_zyx[box])
