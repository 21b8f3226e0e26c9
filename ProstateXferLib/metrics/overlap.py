# SPDX-License-Identifier: Apache-2.0
"""Overlap of two masks: Dice, IoU, precision, recall, F-beta, with one stated rule for empty masks.

| case                            | Dice, IoU, F-beta      | precision          | recall             |
|---------------------------------|------------------------|--------------------|--------------------|
| both empty                      | 1, with "nan" NaN      | NaN, "penalty": 1  | NaN, "penalty": 1  |
| reference empty, prediction not | 0                      | 0                  | NaN, "penalty": 0  |
| prediction empty, reference not | 0                      | NaN, "penalty": 0  | 0                  |

"best_worst" (default) gives a number wherever one makes sense, "nan" leaves two empty masks without one, "penalty"
gives every case a number, so that a mean is over all cases: best where nothing was to be found and nothing was, else
worst. `empty_masks` has the same rules for distances.

Libraries disagree on these cells, and MONAI's default drops the second row from its mean, which hides every false
alarm in patients without a lesion; here a case leaves a mean only where its metric truly has no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.empty_masks import EmptyRule, check_empty_rule, similarity_of_empty
from ProstateXferLib.metrics.masks import Mask, mask_pair

OverlapMetric = Literal["dice", "iou", "precision", "recall", "f_beta"]


@dataclass(frozen=True)
class OverlapCounts:
    """Voxels in the reference, in the prediction and in both; sums of them pool cases or slices."""

    reference: int
    prediction: int
    both: int

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        """The counts of both together, as if they were one volume."""
        return OverlapCounts(
            self.reference + other.reference, self.prediction + other.prediction, self.both + other.both
        )

    def score(self, metric: OverlapMetric, *, empty: EmptyRule = "best_worst", beta: float = 2.0) -> float:
        """One of the metrics of this module from the counts; `beta` matters to "f_beta" only."""
        check_empty_rule(empty)
        if metric in ("precision", "recall"):
            return self._rate(metric, empty)
        nothing = similarity_of_empty(empty, both=True)
        if metric == "dice":
            return _ratio(2 * self.both, self.reference + self.prediction, nothing)
        if metric == "iou":
            return _ratio(self.both, self.reference + self.prediction - self.both, nothing)
        if metric == "f_beta":
            if not (math.isfinite(beta) and beta > 0):
                raise ProstateXferError(f"F-beta needs a finite beta above zero, not {beta}; 2 counts recall double.")
            return _ratio((1 + beta**2) * self.both, beta**2 * self.reference + self.prediction, nothing)
        raise ProstateXferError(f"There is no overlap metric '{metric}'; use dice, iou, precision, recall or f_beta.")

    def _rate(self, metric: str, empty: EmptyRule) -> float:
        """Precision or recall: without anything to divide by there is no value, but under "penalty"."""
        nothing = math.nan
        if empty == "penalty":
            nothing = similarity_of_empty(empty, both=not (self.reference or self.prediction))
        return _ratio(self.both, self.prediction if metric == "precision" else self.reference, nothing)


def overlap_counts(reference: Mask, prediction: Mask) -> OverlapCounts:
    """Count the voxels of two masks, arrays (z, y, x) or images on one grid; whatever is not zero is inside."""
    reference, prediction = mask_pair(reference, prediction)
    return OverlapCounts(
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference & prediction)),
    )


def slice_counts(reference: Mask, prediction: Mask) -> list[OverlapCounts]:
    """The same for each slice of the first array axis (z): axial slices where the image is stored in axial order."""
    reference, prediction = mask_pair(reference, prediction)
    if reference.ndim != 3:
        raise ProstateXferError(f"Slices need a volume (z, y, x); these masks have shape {reference.shape}.")
    planes = [mask.sum(axis=(1, 2)).tolist() for mask in (reference, prediction, reference & prediction)]
    return [OverlapCounts(*counts) for counts in zip(*planes, strict=True)]


def dice(reference: Mask, prediction: Mask, *, empty: EmptyRule = "best_worst") -> float:
    """2 |R and P| / (|R| + |P|); two empty masks give 1, or NaN with `empty="nan"`."""
    return overlap_counts(reference, prediction).score("dice", empty=empty)


def iou(reference: Mask, prediction: Mask, *, empty: EmptyRule = "best_worst") -> float:
    """|R and P| / |R or P|; two empty masks give 1, or NaN with `empty="nan"`."""
    return overlap_counts(reference, prediction).score("iou", empty=empty)


def precision(reference: Mask, prediction: Mask, *, empty: EmptyRule = "best_worst") -> float:
    """|R and P| / |P|; NaN when nothing was predicted, for there is nothing to be right about (see the table)."""
    return overlap_counts(reference, prediction).score("precision", empty=empty)


def recall(reference: Mask, prediction: Mask, *, empty: EmptyRule = "best_worst") -> float:
    """|R and P| / |R|; NaN when the reference is empty, for there is nothing to be found (see the table)."""
    return overlap_counts(reference, prediction).score("recall", empty=empty)


def f_beta(reference: Mask, prediction: Mask, *, beta: float = 2.0, empty: EmptyRule = "best_worst") -> float:
    """(1 + b²) |R and P| / (b² |R| + |P|): recall weighs b times as much as precision; b = 1 is Dice.

    Equal to (1 + b²) P R / (b² P + R) of precision P and recall R where both exist.
    """
    return overlap_counts(reference, prediction).score("f_beta", empty=empty, beta=beta)


def _ratio(numerator: float, denominator: float, without: float) -> float:
    return numerator / denominator if denominator else without
