# SPDX-License-Identifier: Apache-2.0
"""The overlap of a cohort: averaged over slices, over cases, or of all voxels pooled."""

from collections.abc import Iterable, Iterator
from typing import Literal

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.empty_masks import EmptyRule
from ProstateXferLib.metrics.masks import Mask
from ProstateXferLib.metrics.overlap import OverlapCounts, OverlapMetric, overlap_counts, slice_counts
from ProstateXferLib.metrics.statistics import Summary, summarize

Average = Literal["case", "slice", "pooled"]
Slices = Literal["occupied", "reference", "all"]

_KEPT = {
    "occupied": lambda counts: counts.reference or counts.prediction,
    "reference": lambda counts: counts.reference,
    "all": lambda counts: True,
}


def average_overlap(
    pairs: Iterable[tuple[Mask, Mask]],
    metric: OverlapMetric = "dice",
    *,
    average: Average = "case",
    slices: Slices = "occupied",
    empty: EmptyRule = "best_worst",
    beta: float = 2.0,
) -> Summary:
    """Mean, median and spread of an overlap over (reference, prediction) pairs; pairs may be a generator.

    * "case": one value per case, as challenges count.
    * "slice": one value per slice of the first array axis, whatever case it comes from. `slices` says which: where
      either mask has a voxel (default), where the reference has one, or all; empty slices would each count as 1 under
      "best_worst" and lift the mean. The in-domain transfer study gives Dice and IoU in 2-D (its IoU is no
      function of its Dice, which a pooled one would be), without saying how empty slices were treated.
    * "pooled": one value of all voxels of all cases together ("global Dice" in SAP); large structures weigh more, and
      there is no spread. A case without a voxel in either mask adds nothing but is counted.

    In `n_used` of `n_total` the metric had a value; `unit` says of what. An aggregate of nothing is NaN, 0 of 0.
    """
    if average == "case":
        return summarize(overlap_counts(*pair).score(metric, empty=empty, beta=beta) for pair in pairs)
    if average == "slice":
        if slices not in _KEPT:
            raise ProstateXferError(f"slices='{slices}' is unknown; use one of {', '.join(_KEPT)}.")
        kept = (counts for pair in pairs for counts in slice_counts(*pair) if _KEPT[slices](counts))
        return summarize((counts.score(metric, empty=empty, beta=beta) for counts in kept), unit="slices")
    if average == "pooled":
        return _pooled((overlap_counts(*pair) for pair in pairs), metric, empty, beta)
    raise ProstateXferError(f"average='{average}' is unknown; use 'case', 'slice' or 'pooled'.")


def _pooled(every: Iterator[OverlapCounts], metric: OverlapMetric, empty: EmptyRule, beta: float) -> Summary:
    """One value from the sum of all counts, with the number of cases behind it."""
    total, cases = OverlapCounts(0, 0, 0), 0
    for counts in every:
        total, cases = total + counts, cases + 1
    value = total.score(metric, empty=empty, beta=beta) if cases else float("nan")
    nan = float("nan")
    used = cases if value == value else 0
    return Summary(mean=value, median=value, sd=nan, low=nan, high=nan, n_used=used, n_total=cases, unit="cases pooled")
