# SPDX-License-Identifier: Apache-2.0
"""Overlap of two masks: Dice, IoU, precision, recall, with one stated rule for empty masks.

| case                         | Dice, IoU         | precision | recall |
|------------------------------|-------------------|-----------|--------|
| both empty                   | 1, or NaN on wish | NaN       | NaN    |
| reference empty, prediction not | 0              | 0         | NaN    |
| prediction empty, reference not | 0              | NaN       | 0      |

Libraries disagree on these cells, and MONAI's default drops the second row from its mean, which hides every false
alarm in patients without a lesion; here a case leaves a mean only where its metric truly has no value.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.masks import Mask, mask_pair

Empty = Literal["best_worst", "nan"]


@dataclass(frozen=True)
class OverlapCounts:
    """Voxels in the reference, in the prediction and in both."""

    reference: int
    prediction: int
    both: int


def overlap_counts(reference: Mask, prediction: Mask) -> OverlapCounts:
    """Count the voxels of two masks, arrays (z, y, x) or images on one grid; whatever is not zero is inside."""
    reference, prediction = mask_pair(reference, prediction)
    return OverlapCounts(
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference & prediction)),
    )


def dice(reference: Mask, prediction: Mask, *, empty: Empty = "best_worst") -> float:
    """2 |R and P| / (|R| + |P|); two empty masks give 1, or NaN with `empty="nan"`."""
    counts = overlap_counts(reference, prediction)
    return _ratio(2 * counts.both, counts.reference + counts.prediction, _both_empty(empty))


def iou(reference: Mask, prediction: Mask, *, empty: Empty = "best_worst") -> float:
    """|R and P| / |R or P|; two empty masks give 1, or NaN with `empty="nan"`."""
    counts = overlap_counts(reference, prediction)
    return _ratio(counts.both, counts.reference + counts.prediction - counts.both, _both_empty(empty))


def precision(reference: Mask, prediction: Mask, *, empty: Empty = "best_worst") -> float:
    """|R and P| / |P|; NaN when nothing was predicted, under either rule: there is nothing to be right about."""
    _both_empty(empty)
    counts = overlap_counts(reference, prediction)
    return _ratio(counts.both, counts.prediction, math.nan)


def recall(reference: Mask, prediction: Mask, *, empty: Empty = "best_worst") -> float:
    """|R and P| / |R|; NaN when the reference is empty, under either rule: there is nothing to be found."""
    _both_empty(empty)
    counts = overlap_counts(reference, prediction)
    return _ratio(counts.both, counts.reference, math.nan)


def _both_empty(empty: Empty) -> float:
    """The Dice of two empty masks."""
    values = {"best_worst": 1.0, "nan": math.nan}
    if empty not in values:
        raise ProstateXferError(f"empty='{empty}' is unknown; use one of {', '.join(values)}.")
    return values[empty]


def _ratio(numerator: int, denominator: int, without: float) -> float:
    return numerator / denominator if denominator else without
