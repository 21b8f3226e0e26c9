# SPDX-License-Identifier: Apache-2.0
"""Do organs come out of a synthetic CT as they come out of the true one? Dice of two automatic segmentations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.masks import Mask, check_same_grid, foreground
from ProstateXferLib.metrics.overlap import OverlapCounts
from ProstateXferLib.metrics.statistics import Summary, summarize

Counted = Literal["reference", "prediction", "either"]


@dataclass(frozen=True)
class SctDice:
    """Dice by name or label value, NaN for those that do not count, and the summary of those that do."""

    dice: dict[str | int, float]
    summary: Summary


def sct_dice(
    reference_labels: Mask,
    prediction_labels: Mask,
    labels: Mapping[int, str] | None = None,
    *,
    mask: Mask | None = None,
    counted: Counted = "reference",
) -> SctDice:
    """Dice per label of the segmentations of a CT and of its synthetic CT by one and the same model.

    Two images on one grid or integer arrays of one shape (z, y, x). `labels` maps the values to compare to names;
    without it every value but 0 in either is compared. Only voxels inside the `mask` are looked at.

    `counted` says which labels the mean is over: those present in the "reference" (SynthRAD2025: an organ that only
    the synthetic CT has is not punished), in the "prediction" (DGCF, which also counts the background: give
    {0: "background", ...}), or in "either". A missing organ has Dice 0.
    """
    check_same_grid(reference_labels, prediction_labels, ("reference labels", "predicted labels"))
    if counted not in ("reference", "prediction", "either"):
        raise ProstateXferError(f"counted='{counted}' is unknown; use 'reference', 'prediction' or 'either'.")
    one, two = _values(reference_labels, "reference labels"), _values(prediction_labels, "predicted labels")
    if mask is not None:
        check_same_grid(reference_labels, mask, ("reference labels", "mask"))
        inside = foreground(mask)
        one, two = one[inside], two[inside]
    if labels is None:
        labels = {value: value for value in sorted({*_present(one), *_present(two)} - {0})}
    sizes, found, shared = _present(one), _present(two), _present(one[one == two])
    scores = {}
    for value, name in labels.items():
        counts = OverlapCounts(sizes.get(value, 0), found.get(value, 0), shared.get(value, 0))
        scores[name] = counts.score("dice", empty="nan") if _counts(counts, counted) else math.nan
    return SctDice(scores, summarize(scores.values(), unit="labels"))


def _counts(counts: OverlapCounts, counted: Counted) -> bool:
    """Whether a label belongs to the mean."""
    if counted == "either":
        return bool(counts.reference or counts.prediction)
    return bool(counts.reference if counted == "reference" else counts.prediction)


def _present(values: np.ndarray) -> dict[int, int]:
    """Number of voxels of every label that occurs."""
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _values(labels: Mask, what: str) -> np.ndarray:
    """A label map's integers, flat."""
    array = sitk.GetArrayFromImage(labels) if isinstance(labels, sitk.Image) else np.asarray(labels)
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ProstateXferError(f"The {what} are of type {array.dtype}; labels are whole numbers, so cast them first.")
    return array.astype(np.int64, copy=False)
