# SPDX-License-Identifier: Apache-2.0
"""Which lesions of one exam were found and which findings were false, by either of the two rules in use.

"any-overlap" (SAP, J Bone Oncol 2026;57:100745, evaluation section): a lesion is detected when any of its voxels is
predicted; a predicted component that touches no lesion is a false positive. One component over two lesions detects
both, and two components on one lesion are one detection. SAP's text does not state how voxels connect and its code
takes scipy's default of 6; 26 is the default here, as in PI-CAI and in the measurement table.

"picai" (PI-CAI; Saha et al., Lancet Oncol 2024;25:879-887; rules as the package picai_eval 1.4 has them): the
prediction is a detection map in which every 26-connected component has one confidence. A component may match a
lesion when their IoU is at least 0.10; of all one-to-one matchings the one with the largest sum of (1 + IoU) is
taken. (The package's text says that the number of matches comes first; in a chain of three lesions and three components
its sum can prefer two good matches to three poor ones, and so do we.) An unmatched component that reaches 0.10 with
any lesion is ignored, all others are false positives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.lesion_detection import Candidate, Lesion, LesionDetection
from ProstateXferLib.metrics.masks import Mask, bounding_box, check_same_grid, foreground, grid_of

Rule = Literal["any-overlap", "picai"]
Overlap = Literal["IoU", "DSC"]


@dataclass(frozen=True)
class _Components:
    """Components of a mask from the largest: labels 1..n (z, y, x), and per component its voxels and index centroid."""

    labels_zyx: np.ndarray
    voxels: np.ndarray
    centroids_lps: np.ndarray


def detect_lesions(
    reference: Mask,
    prediction: Mask,
    rule: Rule = "any-overlap",
    *,
    spacing_zyx: Sequence[float] | None = None,
    connectivity: Literal[6, 26] = 26,
    min_overlap: float = 0.10,
    overlap: Overlap = "IoU",
    ignore_unmatched_overlapping: bool = True,
) -> LesionDetection:
    """Match the lesions of a reference mask with the components of a prediction: arrays (z, y, x) or images of a grid.

    A floating-point prediction is a map of confidences, 0 where nothing was found, and a component has the largest
    one in it; any other prediction has confidence 1 wherever it is not zero. Volumes and distances need a geometry:
    that of the images, or `spacing_zyx` in mm with bare arrays; without one they are NaN.

    `connectivity` is of the any-overlap rule; PI-CAI's is always 26. `min_overlap` (0 < x <= 1), `overlap` and
    `ignore_unmatched_overlapping` are of PI-CAI's.

    Empty masks are no error: no reference means that every candidate is a false positive, no prediction that every
    lesion is missed, and neither an exam that says nothing about sensitivity and counts for the false positives.
    """
    if rule not in ("any-overlap", "picai"):
        raise ProstateXferError(f"The detection rule '{rule}' is unknown; use 'any-overlap' or 'picai'.")
    connectivity = 26 if rule == "picai" else connectivity
    check_same_grid(reference, prediction, ("reference", "prediction"))
    lesion_mask = foreground(reference, "reference")
    confidence_zyx = _confidences(prediction)
    grid, measured = _geometry(reference, spacing_zyx, lesion_mask.shape)
    # Lesions fill a thousandth of their image.
    box = bounding_box(lesion_mask | (confidence_zyx > 0)) or (slice(0, 0),) * 3
    confidence_zyx, start_zyx = confidence_zyx[box], tuple(axis.start for axis in box)
    masks = (lesion_mask[box], confidence_zyx > 0)
    lesions, found = (_components(mask, connectivity, start_zyx, grid) for mask in masks)
    shared = _shared_voxels(lesions, found)
    confidences = _peak_confidences(confidence_zyx, found)
    if rule == "picai":
        _check_detection_map(confidence_zyx, len(confidences))
        scores = _overlaps(lesions, found, shared, overlap)
        partners, ignored = _picai_matches(scores, min_overlap, ignore_unmatched_overlapping)
    else:
        partners, ignored = [tuple(np.flatnonzero(row).tolist()) for row in shared], np.zeros(len(confidences), bool)
    voxel_cm3 = grid.voxel_volume_mm3 / 1000 if measured else math.nan
    return LesionDetection(
        rule=rule,
        lesions=_described(lesions, found, shared, partners, confidences, voxel_cm3),
        candidates=_judged(found, partners, ignored, confidences, voxel_cm3),
        overlap=overlap,
    )


def _confidences(prediction: Mask) -> np.ndarray:
    """The prediction as confidences (z, y, x), 0 where nothing was found."""
    inside = foreground(prediction, "prediction")
    if inside.ndim != 3:
        raise ProstateXferError(f"Lesions are matched in 3-D; this prediction has shape {inside.shape}.")
    array = sitk.GetArrayFromImage(prediction) if isinstance(prediction, sitk.Image) else np.asarray(prediction)
    if not np.issubdtype(array.dtype, np.floating):
        return inside.astype(np.float32)
    if array.min(initial=0) < 0:
        raise ProstateXferError("The prediction holds confidences below zero; 0 must mean that nothing was found.")
    return array


def _geometry(reference: Mask, spacing_zyx: Sequence[float] | None, shape_zyx: tuple[int, ...]) -> tuple[Grid, bool]:
    """The grid, and whether its millimetres are real."""
    if isinstance(reference, sitk.Image) or spacing_zyx is not None:
        return grid_of(reference, spacing_zyx), True
    return Grid(shape_zyx[::-1], (1.0, 1.0, 1.0)), False


def _components(mask_zyx: np.ndarray, connectivity: int, start_zyx: tuple[int, ...], grid: Grid) -> _Components:
    """The components of a bool array that begins at voxel `start_zyx` of the grid, numbered from the largest."""
    if connectivity == 26:
        labels, count = components_by_volume(mask_zyx)
    elif connectivity == 6:
        labels, count = _face_connected(mask_zyx)
    else:
        raise ProstateXferError(f"Voxels cannot be {connectivity}-connected here; use 26 or 6.")
    indices_zyx = np.argwhere(labels)
    owner = labels[tuple(indices_zyx.T)] - 1
    voxels = np.bincount(owner, minlength=count)
    sums = np.stack([np.bincount(owner, weights=axis, minlength=count) for axis in indices_zyx.T[::-1]], axis=1)
    means_xyz = sums / np.maximum(voxels, 1)[:, None] + start_zyx[::-1]
    return _Components(labels, voxels, grid.index_to_lps(means_xyz) if count else means_xyz)


def _face_connected(mask_zyx: np.ndarray) -> tuple[np.ndarray, int]:
    """6-connected components, numbered like `components_by_volume`."""
    from scipy import ndimage

    labels, count = ndimage.label(mask_zyx)
    order = np.argsort(-np.bincount(labels.ravel(), minlength=count + 1)[1:], kind="stable")
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[order + 1] = np.arange(1, count + 1)
    return numbers[labels], count


def _shared_voxels(lesions: _Components, found: _Components) -> np.ndarray:
    """(lesions, candidates) number of voxels that a lesion and a candidate share."""
    shape = (len(lesions.voxels), len(found.voxels))
    both = (lesions.labels_zyx > 0) & (found.labels_zyx > 0)
    pairs = (lesions.labels_zyx[both] - 1) * np.int64(shape[1]) + found.labels_zyx[both] - 1
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def _peak_confidences(confidence_zyx: np.ndarray, found: _Components) -> np.ndarray:
    """(candidates,) the largest confidence in each candidate."""
    peaks = np.zeros(len(found.voxels))
    inside = found.labels_zyx > 0
    np.maximum.at(peaks, found.labels_zyx[inside] - 1, confidence_zyx[inside])
    return peaks


def _check_detection_map(confidence_zyx: np.ndarray, components: int) -> None:
    """PI-CAI's own test for a probability map in place of a detection map: more values than components."""
    if len(np.unique(confidence_zyx[confidence_zyx > 0])) > components:
        raise ProstateXferError(
            "The prediction has several confidences in one component, as a probability map does; PI-CAI's rule needs a "
            "detection map, so make one with detection_map(probabilities) first."
        )


def _overlaps(lesions: _Components, found: _Components, shared: np.ndarray, overlap: Overlap) -> np.ndarray:
    """(lesions, candidates) IoU or Dice."""
    total = lesions.voxels[:, None] + found.voxels[None, :]
    if overlap == "IoU":
        return shared / np.maximum(total - shared, 1)
    if overlap == "DSC":
        return 2 * shared / np.maximum(total, 1)
    raise ProstateXferError(f"The overlap '{overlap}' is unknown; use 'IoU' or 'DSC'.")


def _picai_matches(
    scores: np.ndarray, min_overlap: float, ignore_overlapping: bool
) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """For each lesion its one candidate or none, and which candidates count neither for nor against the model."""
    from scipy.optimize import linear_sum_assignment

    if not 0 < min_overlap <= 1:
        raise ProstateXferError(f"A least overlap of {min_overlap} is impossible; give a share above 0 and up to 1.")
    enough = scores >= min_overlap
    # As picai_eval weighs them: one for the match and its overlap on top.
    worth = np.where(enough, scores + 1, 0)
    partners: list[tuple[int, ...]] = [()] * scores.shape[0]
    for lesion, candidate in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
        if enough[lesion, candidate]:
            partners[lesion] = (int(candidate),)
    matched = np.isin(np.arange(scores.shape[1]), [candidate for pair in partners for candidate in pair])
    return partners, enough.any(axis=0) & ~matched if ignore_overlapping else np.zeros(scores.shape[1], bool)


def _described(
    lesions: _Components,
    found: _Components,
    shared: np.ndarray,
    partners: list[tuple[int, ...]],
    confidences: np.ndarray,
    voxel_cm3: float,
) -> tuple[Lesion, ...]:
    """Every lesion with what became of it."""
    described = []
    for number, mine in enumerate(partners):
        together, common = int(found.voxels[list(mine)].sum()), int(shared[number, list(mine)].sum())
        own = int(lesions.voxels[number])
        described.append(
            Lesion(
                number=number + 1,
                voxel_count=own,
                volume_cm3=own * voxel_cm3,
                candidates=tuple(candidate + 1 for candidate in mine),
                confidence=float(confidences[list(mine)].max()) if mine else 0.0,
                dice=2 * common / (own + together),
                iou=common / (own + together - common),
                centroid_distance_mm=_nearest_mm(number, lesions, found, shared) if voxel_cm3 > 0 else math.nan,
            )
        )
    return tuple(described)


def _nearest_mm(number: int, lesions: _Components, found: _Components, shared: np.ndarray) -> float:
    """Centroid distance to the candidate that shares most voxels with the lesion, else to the nearest; NaN without."""
    if not len(found.voxels):
        return math.nan
    distances = np.linalg.norm(found.centroids_lps - lesions.centroids_lps[number], axis=1)
    partner = np.argmax(shared[number]) if shared[number].any() else np.argmin(distances)
    return float(distances[partner])


def _judged(
    found: _Components,
    partners: list[tuple[int, ...]],
    ignored: np.ndarray,
    confidences: np.ndarray,
    voxel_cm3: float,
) -> tuple[Candidate, ...]:
    """Every candidate with the verdict on it."""
    true = {candidate for mine in partners for candidate in mine}
    verdicts = ["true" if k in true else "ignored" if ignored[k] else "false" for k in range(len(confidences))]
    return tuple(
        Candidate(k + 1, int(found.voxels[k]), float(found.voxels[k] * voxel_cm3), float(confidences[k]), verdicts[k])
        for k in range(len(verdicts))
    )
