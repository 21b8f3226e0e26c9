# SPDX-License-Identifier: Apache-2.0
"""Whether probabilities are frequencies: of all that is given 0.8, eight in ten should be there.

Everything here is about one event (a voxel belongs to a structure or does not) and one-dimensional arrays of equal
length: `probability` in 0..1, `happened` (bool, or 0 and 1) and `weights` (None is 1 each). What is said of a voxel may
stand for many that say the same, by its weight. Sources: Guo et al., On Calibration of Modern Neural Networks, ICML
2017, sections 2 (reliability diagram, expected calibration error) and 4.2 (temperature); Brier, Mon Weather Rev
1950;78:1-3.
"""

from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError

BINS = 15
"""Guo et al., section 5."""
CERTAIN = 1e-6
"""Probabilities count as no nearer to 0 and 1 than this in logarithms: one voxel must not outweigh all others."""
_TEMPERATURES = (0.05, 20.0)
_MOST_NUMBERS = 2**22  # drawn at once in a bootstrap: 32 MB


@dataclass(frozen=True, eq=False)
class ReliabilityTable:
    """Arrays (bins,): what was said and what came true, in bins of equal width; NaN where a bin is empty.

    Attributes:
        edges: (bins + 1,) from 0 to 1; a bin holds its lower edge, the last one both.
        probability: weighted mean of the probabilities in the bin.
        frequency: weighted share of them that happened.
        share: of all weight; sums to 1.
    """

    edges: np.ndarray
    probability: np.ndarray
    frequency: np.ndarray
    share: np.ndarray


def bin_of(probability: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin, 0..bins - 1, of each probability."""
    return np.clip((np.asarray(probability, dtype=np.float64) * bins).astype(np.int64), 0, bins - 1)


def reliability_table(
    probability: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None, *, bins: int = BINS
) -> ReliabilityTable:
    """The reliability diagram's numbers.

    Raises:
        ProstateXferError: arrays that do not fit, values outside 0..1, or no weight at all.
    """
    p, y, w = _checked(probability, happened, weights)
    place = bin_of(p, bins)
    weight, said, came = (np.bincount(place, weights=value, minlength=bins) for value in (w, w * p, w * y))
    there = weight > 0
    divisor = np.where(there, weight, 1.0)
    return ReliabilityTable(
        edges=np.linspace(0, 1, bins + 1),
        probability=np.where(there, said / divisor, np.nan),
        frequency=np.where(there, came / divisor, np.nan),
        share=weight / weight.sum(),
    )


def calibration_error(table: ReliabilityTable) -> float:
    """Expected calibration error: the mean distance of frequency from probability over the bins, by their share."""
    return float(np.nansum(table.share * np.abs(table.frequency - table.probability)))


def brier_score(probability: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean squared difference of probability and outcome: 0 is perfect, 0.25 is to say 0.5 always."""
    p, y, w = _checked(probability, happened, weights)
    return float(np.average((p - y) ** 2, weights=w))


def negative_log_likelihood(probability: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of -ln of the probability of what came true, in nats; probabilities as `CERTAIN` has them."""
    p, y, w = _checked(probability, happened, weights)
    p = np.clip(p, CERTAIN, 1 - CERTAIN)
    return float(np.average(-np.where(y, np.log(p), np.log1p(-p)), weights=w))


def log_odds(probability: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)) in float64, probabilities as `CERTAIN` has them."""
    p = np.clip(np.asarray(probability, dtype=np.float64), CERTAIN, 1 - CERTAIN)
    return np.log(p) - np.log1p(-p)


def fit_temperature(probability: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature T, 0.05 to 20, for which the log-odds divided by T have the least negative log-likelihood.

    Above 1 where the probabilities are too sure of themselves, below 1 where they are too timid. In 1 / T the
    likelihood has one minimum (a logistic regression through the origin). A probability of exactly 0 is no opinion that
    a temperature could change (a place that was not looked at) and does not count.

    Raises:
        ProstateXferError: arrays that do not fit, or outcomes of one kind alone, which every extreme would please.
    """
    from scipy.optimize import minimize_scalar

    p, y, w = _checked(probability, happened, weights)
    counts = (p > 0) & (w > 0)
    p, y, w = p[counts], y[counts], w[counts]
    if not y.any() or y.all():
        kind = "outside" if not y.any() else "inside"
        raise ProstateXferError(
            f"All voxels that the model gives a probability lie {kind} the reference, which fits no temperature: give "
            "cases that have the structure."
        )
    against = np.where(y, -1.0, 1.0) * log_odds(p)
    w = w / w.sum()

    def loss(log_temperature: float) -> float:
        return float(w @ np.logaddexp(0.0, against / np.exp(log_temperature)))

    # In the logarithm halving and doubling are steps of one size; the minimum stays the only one.
    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def at_a_bound(temperature: float) -> bool:
    """Whether a fitted temperature is one of the extremes, so that the true minimum lies beyond."""
    low, high = _TEMPERATURES
    return temperature < low * 1.01 or temperature > high / 1.01


def frequency_band(
    probability: np.ndarray,
    happened: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    groups: np.ndarray,
    bins: int = BINS,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end (bins,) of the bootstrap interval of each bin's frequency, by drawing whole groups.

    Voxels of one patient are alike, so patients are drawn and not voxels. NaN where fewer than two groups fill a bin,
    of which no spread is known.

    Args:
        probability, happened, weights: as everywhere here.
        groups: the patient of each, any kind of values.
        bins, resamples, confidence, seed: of the bins and of the draws.
    """
    p, y, w = _checked(probability, happened, weights)
    names, owner = np.unique(np.asarray(groups), return_inverse=True)
    place, size = owner * bins + bin_of(p, bins), len(names) * bins
    weight = np.bincount(place, weights=w, minlength=size).reshape(-1, bins)
    came = np.bincount(place, weights=w * y, minlength=size).reshape(-1, bins)
    random, rows, drawn = np.random.default_rng(seed), max(1, _MOST_NUMBERS // (len(names) * bins)), []
    for start in range(0, resamples, rows):
        times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(rows, resamples - start))
        total = times @ weight
        drawn.append(np.where(total > 0, times @ came / np.where(total > 0, total, 1.0), np.nan))
    every, known = np.concatenate(drawn), (weight > 0).sum(axis=0) > 1
    low, high = np.full(bins, np.nan), np.full(bins, np.nan)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    if known.any():
        low[known], high[known] = np.nanquantile(every[:, known], tails, axis=0)
    return low, high


def _checked(
    probability: np.ndarray, happened: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays as float64, bool and float64."""
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(happened)
    w = np.ones(p.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if p.ndim != 1 or not p.shape == y.shape == w.shape:
        raise ProstateXferError(
            f"Probabilities {p.shape}, outcomes {y.shape} and weights {w.shape} must be arrays of one length."
        )
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails, too
        raise ProstateXferError("A probability lies outside 0 to 1: give probabilities, not logits.")
    if not np.isin(y, (0, 1)).all():
        raise ProstateXferError("An outcome is neither 0 nor 1: a voxel belongs to a structure or does not.")
    if not (np.isfinite(w) & (w >= 0)).all() or not w.sum() > 0:
        raise ProstateXferError("There is no voxel to compare, or a weight is negative: give cases and weights from 0.")
    return p, y.astype(bool), w
