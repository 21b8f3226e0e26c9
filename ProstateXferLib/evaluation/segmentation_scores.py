# SPDX-License-Identifier: Apache-2.0
"""All metrics of the structures of one case. Volumes, centroids and Dice are those of `metrics.measure`."""

import math
from collections.abc import Iterator

import numpy as np

from ProstateXferLib.evaluation.case_result import WHOLE, LesionExam, MethodResult, Value
from ProstateXferLib.evaluation.catalog import nsd_key
from ProstateXferLib.evaluation.label_pair import LabelPair, empty_pair
from ProstateXferLib.evaluation.lesion_scores import Confidence, lesion_exam, lesion_values
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.empty_masks import distance_mm_of_empty, similarity_of_empty
from ProstateXferLib.metrics.naming import is_lesion
from ProstateXferLib.metrics.overlap import OverlapCounts
from ProstateXferLib.metrics.pieces import Piece
from ProstateXferLib.metrics.surface import surface_metrics

_OVERLAPS = ("dice", "iou", "precision", "recall")
_DISTANCES = ("hd", "hd95", "assd", "masd")


def score_pair(pair: LabelPair, options: EvaluationOptions, confidence: Confidence | None = None) -> MethodResult:
    """The values of every structure that either side speaks of; `confidence` lies on the pair's grid."""
    values: list[Value] = []
    exams: dict[str, LesionExam] = {}
    for structure in pair.structures:
        if options.structures and structure.name not in options.structures:
            continue
        masks = [
            whole_structure_mask(labels, structure, pair.structures)
            for labels in (pair.reference_zyx, pair.prediction_zyx)
        ]
        values += _structure_values(structure, masks, pair, options)
        if is_lesion(structure):
            exams[structure.name] = lesion_exam(pair, *masks, confidence, options.thresholds)
            values += lesion_values(structure.name, exams[structure.name].any_overlap)
    return MethodResult(values=tuple(values), declared=pair.prediction_declared, exams=exams)


def score_of_nothing(name: str, options: EvaluationOptions) -> MethodResult:
    """What a case is worth in whose two files there is nothing of a structure."""
    return score_pair(empty_pair([name]), options)


def _structure_values(
    structure: Structure, masks: list[np.ndarray], pair: LabelPair, options: EvaluationOptions
) -> Iterator[Value]:
    reference, prediction = (Piece.of(mask, pair.start_zyx, pair.grid) for mask in masks)
    reason = _why_not(reference, prediction)
    for metric, value in (
        *_overlap_values(reference, prediction, options),
        *_surface_values(reference, prediction, masks, pair, options),
        *_size_values(reference, prediction),
    ):
        yield Value(structure.name, WHOLE, metric, value, reason if math.isnan(value) else "")


def _overlap_values(reference: Piece, prediction: Piece, options: EvaluationOptions) -> Iterator[tuple[str, float]]:
    counts = OverlapCounts(reference.voxel_count, prediction.voxel_count, prediction.shared_voxels(reference))
    for metric in _OVERLAPS:
        yield metric, counts.score(metric, empty=options.empty)


def _surface_values(
    reference: Piece, prediction: Piece, masks: list[np.ndarray], pair: LabelPair, options: EvaluationOptions
) -> Iterator[tuple[str, float]]:
    if reference.voxel_count and prediction.voxel_count:
        found = surface_metrics(
            *masks, pair.grid.spacing_zyx, tolerances_mm=options.tolerances_mm, definition=options.surface
        )
        yield from ((metric, getattr(found, metric)) for metric in _DISTANCES)
        yield from ((nsd_key(tolerance), value) for tolerance, value in found.nsd.items())
        return
    # Not by surface_metrics: the masks are a crop, and the penalty is the diagonal of the whole image.
    both = not reference.voxel_count and not prediction.voxel_count
    sides = zip(pair.grid.shape_zyx, pair.grid.spacing_zyx, strict=True)
    diagonal_mm = math.hypot(*(size * spacing for size, spacing in sides))
    distance = distance_mm_of_empty(options.empty, both=both, diagonal_mm=diagonal_mm)
    yield from ((metric, distance) for metric in _DISTANCES)
    share = similarity_of_empty(options.empty, both=both)
    yield from ((nsd_key(tolerance), share) for tolerance in options.tolerances_mm)


def _size_values(reference: Piece, prediction: Piece) -> Iterator[tuple[str, float]]:
    difference = prediction.volume_cm3 - reference.volume_cm3
    yield "volume_reference", reference.volume_cm3
    yield "volume_prediction", prediction.volume_cm3
    yield "volume_difference", difference
    yield "volume_difference_relative", 100 * difference / reference.volume_cm3 if reference.voxel_count else math.nan
    yield "volume_error", abs(difference)
    both = reference.voxel_count and prediction.voxel_count
    yield "centroid_distance", math.dist(prediction.centroid_lps, reference.centroid_lps) if both else math.nan


def _why_not(reference: Piece, prediction: Piece) -> str:
    if not reference.voxel_count and not prediction.voxel_count:
        return "both empty"
    return "reference empty" if not reference.voxel_count else "prediction empty"
