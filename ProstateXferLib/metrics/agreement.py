# SPDX-License-Identifier: Apache-2.0
"""How well two measurements of a quantity (the volumes of a reference and of a model) agree over many cases.

Every function takes two sequences, case by case in the same order, in any one unit, and leaves out the cases in which
one of them is NaN; how many of how many cases remained is part of every result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True, kw_only=True)
class RootMeanSquareError:
    """`value` in the unit of the values (its square root was taken); NaN without a case."""

    value: float
    n_used: int
    n_total: int


@dataclass(frozen=True, kw_only=True)
class Icc:
    """Intraclass correlation with its interval (`confidence`); NaN for fewer than two cases or no spread at all."""

    value: float
    low: float
    high: float
    n_used: int
    n_total: int
    confidence: float = 0.95


@dataclass(frozen=True, kw_only=True)
class BlandAltman:
    """The numbers of a Bland-Altman plot; differences are prediction minus reference, in the unit of the values.

    `means` and `differences` are the points; `bias` is the mean difference and `lower`, `upper` the limits of
    agreement, bias -+ 1.96 SD, each with its confidence interval (low, high). Everything but `bias` is NaN for fewer
    than two cases.
    """

    means: tuple[float, ...]
    differences: tuple[float, ...]
    bias: float
    sd: float
    lower: float
    upper: float
    bias_interval: tuple[float, float]
    lower_interval: tuple[float, float]
    upper_interval: tuple[float, float]
    n_used: int
    n_total: int
    confidence: float = 0.95


def volume_rmse(reference: Sequence[float], prediction: Sequence[float]) -> RootMeanSquareError:
    """Root of the mean squared difference over the cases, in the unit of the values (PANTHER gives mm³).

    A structure that was missed has volume 0 and counts, as in PANTHER's evaluation; pass NaN to leave a case out.
    """
    one, two, total = _pairs(reference, prediction)
    value = math.sqrt(float(((two - one) ** 2).mean())) if one.size else math.nan
    return RootMeanSquareError(value=value, n_used=one.size, n_total=total)


def icc_a1(reference: Sequence[float], prediction: Sequence[float], *, confidence: float = 0.95) -> Icc:
    """ICC(A,1): two-way random effects, absolute agreement, one measurement; also written ICC(2,1).

    From the mean squares of the two-way analysis of variance; interval by McGraw and Wong (Psychol Methods
    1996;1:30-46, tables 4 and 7). SAP reports it for tumour volumes (J Bone Oncol 2026;57:100745, statistics section).
    """
    one, two, total = _pairs(reference, prediction)
    n, k = one.size, 2
    nothing = Icc(value=math.nan, low=math.nan, high=math.nan, n_used=n, n_total=total, confidence=confidence)
    if n < 2:
        return nothing
    rows, columns, error = _mean_squares(np.stack([one, two], axis=1))
    spread = rows + (k - 1) * error + k * (columns - error) / n
    if spread <= 0:
        return nothing
    value = (rows - error) / spread
    low, high = _icc_interval(value, (rows, columns, error), n, confidence)
    return Icc(value=value, low=low, high=high, n_used=n, n_total=total, confidence=confidence)


def bland_altman(reference: Sequence[float], prediction: Sequence[float], *, confidence: float = 0.95) -> BlandAltman:
    """Bias and limits of agreement (Bland and Altman, Lancet 1986;327:307-310).

    Intervals with Student's t: of the bias with standard error SD / sqrt(n), of the limits with
    SD sqrt(1/n + 1.96² / (2 (n - 1))) (Bland and Altman, Stat Methods Med Res 1999;8:135-160, section 2.1).
    """
    from scipy import stats

    one, two, total = _pairs(reference, prediction)
    differences, n = two - one, one.size
    bias = float(differences.mean()) if n else math.nan
    sd = bias_reach = limit_reach = math.nan
    if n > 1:
        sd = float(differences.std(ddof=1))
        student = float(stats.t.ppf((1 + confidence) / 2, n - 1))
        bias_reach = student * sd / math.sqrt(n)
        limit_reach = student * sd * math.sqrt(1 / n + _LIMIT**2 / (2 * (n - 1)))
    lower, upper = bias - _LIMIT * sd, bias + _LIMIT * sd
    return BlandAltman(
        means=tuple(((one + two) / 2).tolist()),
        differences=tuple(differences.tolist()),
        bias=bias,
        sd=sd,
        lower=lower,
        upper=upper,
        bias_interval=(bias - bias_reach, bias + bias_reach),
        lower_interval=(lower - limit_reach, lower + limit_reach),
        upper_interval=(upper - limit_reach, upper + limit_reach),
        n_used=n,
        n_total=total,
        confidence=confidence,
    )


_LIMIT = NormalDist().inv_cdf(0.975)
"""1.96: 95 % of normally distributed differences lie within so many SDs, whatever the intervals' confidence."""


def _mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """Mean squares between rows, between columns and of the residue of an (n cases, k measurements) table."""
    n, k = table.shape
    by_row, by_column, overall = table.mean(axis=1), table.mean(axis=0), table.mean()
    residue = table - by_row[:, None] - by_column[None, :] + overall
    rows = k * float(((by_row - overall) ** 2).sum()) / (n - 1)
    columns = n * float(((by_column - overall) ** 2).sum()) / (k - 1)
    return rows, columns, float((residue**2).sum()) / ((n - 1) * (k - 1))


def _icc_interval(
    value: float, mean_squares: tuple[float, float, float], n: int, confidence: float
) -> tuple[float, float]:
    """McGraw and Wong's interval of ICC(A,1) for two measurements; the value itself where they agree perfectly."""
    from scipy import stats

    rows, columns, error = mean_squares
    if columns + error <= 0 or value >= 1:
        return value, value
    k = 2
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    parts = (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    if parts <= 0:
        return math.nan, math.nan
    freedom = (a * columns + b * error) ** 2 / parts
    tail = (1 + confidence) / 2
    below, above = stats.f.ppf(tail, n - 1, freedom), stats.f.ppf(tail, freedom, n - 1)
    rest = k * columns + (k * n - k - n) * error
    if not (below > 0 and above > 0):  # or NaN: next to no degrees of freedom
        return math.nan, math.nan
    # Divided by the quantiles, which may be infinite.
    return (
        _ratio(n * (rows / below - error), rest + n * rows / below),
        _ratio(n * (rows - error / above), rest / above + n * rows),
    )


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan


def _pairs(reference: Sequence[float], prediction: Sequence[float]) -> tuple[np.ndarray, np.ndarray, int]:
    """Both as (n,) float64 without the cases in which one is NaN, and the number of cases before."""
    one, two = np.asarray(reference, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape:
        raise ProstateXferError(
            f"Agreement needs one value per case from both sides; there are {one.shape} and {two.shape}: match the "
            "cases first."
        )
    both = ~(np.isnan(one) | np.isnan(two))
    return one[both], two[both], both.size
