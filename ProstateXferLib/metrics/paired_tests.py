# SPDX-License-Identifier: Apache-2.0
"""Do two methods differ on the same cases, or two groups of lesions from each other? With the usual corrections."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from ProstateXferLib.errors import ProstateXferError

Correction = Literal["holm", "bonferroni", "none"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One test: `p` as it comes, `p_adjusted` for the number of tests made together.

    `n_used` of `n_total` pairs (or values) had no NaN. `median_difference` is the median of second minus first over
    the pairs, or the difference of the medians of unpaired groups.
    """

    first: str
    second: str
    p: float
    p_adjusted: float
    median_difference: float
    n_used: int
    n_total: int
    test: str
    correction: Correction = "none"

    def __str__(self) -> str:
        """The test in one line."""
        return (
            f"{self.second} against {self.first}: median difference {self.median_difference:.4g}, {self.test} "
            f"p = {self.p:.3g}, adjusted ({self.correction}) {self.p_adjusted:.3g} ({self.n_used} of {self.n_total})"
        )


def paired_wilcoxon(
    first: Sequence[float], second: Sequence[float], *, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Wilcoxon's signed-rank test of two values per case, two-sided; a pair with a NaN is left out and counted.

    Pairs without a difference are dropped, as Wilcoxon did (scipy's zero_method "wilcox"); p is exact for up to 50
    pairs without zeros and ties and by the normal approximation otherwise. p is 1 when no pair differs and NaN
    without a pair. SAP's test at patient level (J Bone Oncol 2026;57:100745, statistics section).
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != two.shape or one.ndim != 1:
        raise ProstateXferError(
            f"A paired test needs one value per case from both sides; there are {one.shape} and {two.shape}: match "
            "the cases first."
        )
    both = ~(np.isnan(one) | np.isnan(two))
    one, two = one[both], two[both]
    # Not two - one alone: the same infinity on both sides is no difference, and inf - inf is NaN.
    steps = np.subtract(two, one, out=np.zeros_like(one), where=one != two)
    p = math.nan
    if steps.size:
        p = 1.0 if not steps.any() else _signed_rank_p(steps)
    return Comparison(
        first=names[0],
        second=names[1],
        p=p,
        p_adjusted=p,
        median_difference=float(np.median(steps)) if steps.size else math.nan,
        n_used=int(both.sum()),
        n_total=both.size,
        test="Wilcoxon signed-rank",
    )


def mann_whitney(
    first: Sequence[float], second: Sequence[float], *, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Mann-Whitney's U test of two independent groups, two-sided; NaNs are left out and counted.

    SAP's test at lesion level, where the two methods do not find the same lesions. NaN when a group is empty.
    """
    from scipy import stats

    groups = [np.asarray(group, dtype=float).ravel() for group in (first, second)]
    one, two = (group[~np.isnan(group)] for group in groups)
    exists = bool(one.size and two.size)
    p = float(stats.mannwhitneyu(one, two, alternative="two-sided").pvalue) if exists else math.nan
    return Comparison(
        first=names[0],
        second=names[1],
        p=p,
        p_adjusted=p,
        median_difference=float(np.median(two) - np.median(one)) if exists else math.nan,
        n_used=one.size + two.size,
        n_total=sum(group.size for group in groups),
        test="Mann-Whitney U",
    )


def compare_paired(
    methods: Mapping[str, Sequence[float]], *, against: str | None = None, correction: Correction = "holm"
) -> list[Comparison]:
    """Wilcoxon's test of every pair of methods, or of every other method `against` one, corrected for their number.

    `methods` maps a method's name to its values, case by case in the same order.
    """
    if against is not None and against not in methods:
        raise ProstateXferError(f"There are no values of '{against}'; use one of {', '.join(methods)}.")
    names = list(methods)
    pairs = combinations(names, 2) if against is None else ((against, name) for name in names if name != against)
    tests = [paired_wilcoxon(methods[one], methods[two], names=(one, two)) for one, two in pairs]
    adjusted = adjust_p_values([test.p for test in tests], correction)
    return [replace(test, p_adjusted=p, correction=correction) for test, p in zip(tests, adjusted, strict=True)]


def adjust_p_values(p_values: Sequence[float], correction: Correction = "holm") -> list[float]:
    """p-values for tests made together, in their order; a NaN (a test that could not be made) stays and does not count.

    "bonferroni" multiplies with the number of tests; "holm" (Scand J Stat 1979;6:65-70) the smallest p with m, the
    next with m - 1 and so on, never below the one before, and is never less powerful.
    """
    if correction not in ("holm", "bonferroni", "none"):
        raise ProstateXferError(f"The correction '{correction}' is unknown; use 'holm', 'bonferroni' or 'none'.")
    adjusted = np.array(p_values, dtype=float)
    made = np.flatnonzero(~np.isnan(adjusted))
    if correction == "bonferroni":
        adjusted[made] *= made.size
    elif correction == "holm":
        order = made[np.argsort(adjusted[made], kind="stable")]
        adjusted[order] = np.maximum.accumulate(adjusted[order] * np.arange(made.size, 0, -1))
    return np.minimum(adjusted, 1.0).tolist()


def _signed_rank_p(steps: np.ndarray) -> float:
    """scipy's p for differences of which at least one is not zero."""
    from scipy import stats

    # Dropped here, so that scipy takes the exact distribution for what remains wherever it can.
    return float(stats.wilcoxon(steps[steps != 0]).pvalue)
