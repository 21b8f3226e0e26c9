# SPDX-License-Identifier: Apache-2.0
"""One number for many cases, with its spread, its confidence interval and how many cases it was made of.

NaN means "this case has no such value" (see `overlap`): it is left out and counted, never replaced. Infinite values
(the PSNR of identical images) stay in: they make the mean infinite and leave SD and interval without a value.

The interval is a bootstrap over cases: `resamples` times n of the n values are drawn with replacement, from a generator
with a fixed seed. "percentile" (default) takes the quantiles of the resampled statistic; "bca" corrects them for bias
and acceleration (Efron, J Am Stat Assoc 1987;82:171-185). SAP gives medians with percentile intervals from 1000
resamples (J Bone Oncol 2026;57:100745, statistics section; which of the two it took is not stated).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from ProstateXferLib.errors import ProstateXferError

Statistic = Literal["mean", "median"]
IntervalMethod = Literal["percentile", "bca"]

_STATISTICS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "median": np.median}
_CHUNK = 2**22
"""Numbers drawn at once: 32 MB of indices, whatever the cohort's size."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a set of values amounts to; `n_used` of `n_total` values existed, all else is NaN when none did.

    `sd` is the sample's (divided by n - 1), NaN for fewer than two values; so is the interval `low` to `high`, which
    is that of the mean or the median as `interval_of` says.
    """

    mean: float
    median: float
    sd: float
    low: float
    high: float
    n_used: int
    n_total: int
    unit: str = "cases"
    interval_of: Statistic = "mean"
    confidence: float = 0.95
    method: IntervalMethod = "percentile"

    def __str__(self) -> str:
        """All of it in one line, with the count that belongs to every mean."""
        interval = f"{100 * self.confidence:g} % CI of the {self.interval_of} {self.low:.4g} to {self.high:.4g}"
        return (
            f"mean {self.mean:.4g}, median {self.median:.4g}, SD {self.sd:.4g}, {interval} "
            f"({self.n_used} of {self.n_total} {self.unit})"
        )


def summarize(
    values: Iterable[float],
    *,
    interval_of: Statistic = "mean",
    confidence: float = 0.95,
    method: IntervalMethod = "percentile",
    resamples: int = 1000,
    seed: int = 0,
    unit: str = "cases",
) -> Summary:
    """Mean, median, SD and bootstrap interval of the values that are not NaN; `unit` names what one value stands for.

    Without any value all numbers are NaN; `resamples=0` leaves the interval out (NaN) where only the mean is wanted.
    """
    every = _numbers(values)
    used = every[~np.isnan(every)]
    low = high = math.nan
    if resamples:
        low, high = bootstrap_interval(
            used, interval_of, confidence=confidence, method=method, resamples=resamples, seed=seed
        )
    return Summary(
        mean=float(used.mean()) if used.size else math.nan,
        median=float(np.median(used)) if used.size else math.nan,
        sd=float(used.std(ddof=1)) if used.size > 1 and np.isfinite(used).all() else math.nan,
        low=low,
        high=high,
        n_used=used.size,
        n_total=every.size,
        unit=unit,
        interval_of=interval_of,
        confidence=confidence,
        method=method,
    )


def bootstrap_interval(
    values: Iterable[float],
    statistic: Statistic = "mean",
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "percentile",
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Lower and upper end of the bootstrap confidence interval of the mean or median of the values that are not NaN.

    The same values, resamples and seed give the same interval on every machine. NaN for fewer than two values and
    where one is infinite.
    """
    _check_interval(statistic, confidence, method, resamples)
    every = _numbers(values)
    used = every[~np.isnan(every)]
    if used.size < 2 or not np.isfinite(used).all():
        return math.nan, math.nan
    if used.min() == used.max():
        return float(used[0]), float(used[0])
    drawn = _resampled(used, _STATISTICS[statistic], resamples, seed)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    if method == "bca":
        tails = _corrected(tails, used, drawn, _STATISTICS[statistic])
    low, high = np.quantile(drawn, tails)
    return float(low), float(high)


def _resampled(values: np.ndarray, statistic: Callable[..., np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """(resamples,) the statistic of as many draws with replacement."""
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // values.size)
    chunks = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), values.size)
        chunks.append(statistic(values[random.integers(values.size, size=shape)], axis=1))
    return np.concatenate(chunks)


def _corrected(
    tails: tuple[float, float], values: np.ndarray, drawn: np.ndarray, statistic: Callable[..., np.ndarray]
) -> tuple[float, float]:
    """Efron's BCa: the two tail probabilities after correction for bias and acceleration."""
    normal, found = NormalDist(), float(statistic(values))
    # A resample that equals the estimate counts half below it: medians repeat a lot.
    share = (np.count_nonzero(drawn < found) + 0.5 * np.count_nonzero(drawn == found)) / drawn.size
    if not 0 < share < 1:
        return tails
    bias = normal.inv_cdf(share)
    left_out = np.array([statistic(np.delete(values, k)) for k in range(values.size)])
    steps = left_out.mean() - left_out
    spread = float((steps**2).sum())
    acceleration = float((steps**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0

    def corrected(tail: float) -> float:
        score = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + score / (1 - acceleration * score))

    return corrected(tails[0]), corrected(tails[1])


def _check_interval(statistic: str, confidence: float, method: str, resamples: int) -> None:
    """Refuse what no bootstrap can be made with."""
    if statistic not in _STATISTICS:
        raise ProstateXferError(f"There is no interval of the '{statistic}'; use one of {', '.join(_STATISTICS)}.")
    if method not in ("percentile", "bca"):
        raise ProstateXferError(f"The interval '{method}' is unknown; use 'percentile' or 'bca'.")
    if not 0 < confidence < 1:
        raise ProstateXferError(f"A confidence of {confidence} is impossible; give a share as 0.95.")
    if resamples < 1:
        raise ProstateXferError(f"A bootstrap of {resamples} resamples is impossible; take 1000 or more.")


def _numbers(values: Iterable[float]) -> np.ndarray:
    """(n,) float64; None, as a table writes what does not exist, becomes NaN."""
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
