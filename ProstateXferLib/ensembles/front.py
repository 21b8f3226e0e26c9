# SPDX-License-Identifier: Apache-2.0
"""The front of two aims: which ensembles nothing beats in both overlap and boundary, and which of them to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.ensembles.case_metrics import METRIC_KEYS, METRICS, CaseMetrics, RankedMetric
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.ranking import rounded
from ProstateXferLib.errors import ProstateXferError

BOUNDARY_METRICS = ("nsd", "hd95", "masd")
_TIE = 1e-3
"""Weight of the sum beside the maximum (Steuer and Choo, Math Program 1983;26:326-344): breaks ties on the maximum."""


@dataclass(frozen=True)
class FrontPoint:
    """An ensemble: `overlap` is its mean Dice, `boundary` its mean NSD, HD95 or MASD (mm) as the front says."""

    members: Members
    overlap: float
    boundary: float

    @classmethod
    def of(cls, members: Members, metrics: CaseMetrics, boundary_metric: str) -> FrontPoint:
        """The place of an ensemble with these metrics."""
        key = boundary_of(boundary_metric).key
        return cls(members, float(metrics.column("dice").mean()), float(metrics.column(key).mean()))


@dataclass(frozen=True)
class Front:
    """What a search of weights found.

    Attributes:
        boundary_metric: "nsd", "hd95" or "masd".
        evaluated: every ensemble that was measured.
        efficient: those that no other equals or beats in both, from the best overlap to the best boundary.
        chosen: the one of them that was taken.
        trade: what it was taken by: 1 looks at overlap alone, 0 at the boundary alone.
        exhaustive: whether every point of the grid was measured; otherwise the front is that of a search.
    """

    boundary_metric: str
    evaluated: tuple[FrontPoint, ...]
    efficient: tuple[FrontPoint, ...]
    chosen: FrontPoint
    trade: float
    exhaustive: bool


def boundary_of(key: str) -> RankedMetric:
    """The boundary metric of that key."""
    if key not in BOUNDARY_METRICS:
        raise ProstateXferError(f"'{key}' is no boundary metric; use one of {', '.join(BOUNDARY_METRICS)}.")
    return METRICS[METRIC_KEYS.index(key)]


def front_of(points: Sequence[FrontPoint], boundary_metric: str, *, trade: float = 0.5, exhaustive: bool) -> Front:
    """The efficient ones of the points, and the one that `trade` takes.

    Of points with equal numbers the one with the fewest members counts, then the first. The choice scales both aims to
    0..1 between the ends of the front and takes the smallest weighted distance from the best of both in the worse aim
    (weighted Chebyshev): unlike a weighted sum it reaches every point of a front that is not convex.

    Raises:
        ProstateXferError: no points, an unknown boundary metric, a trade that is no share.
    """
    check_trade(trade)
    if not points:
        raise ProstateXferError("A front needs at least one ensemble that was measured.")
    gains = gains_of(points, boundary_metric)
    few = [len(point.members.names) for point in points]
    # Best overlap first, then best boundary, then fewest members; lexsort is stable and takes its last key first.
    order = np.lexsort((few, -gains[:, 1], -gains[:, 0]))
    kept: list[int] = []
    for place in order:
        if not kept or gains[place, 1] > gains[kept[-1], 1]:
            kept.append(int(place))
    best, worst = gains[kept].max(axis=0), gains[kept].min(axis=0)
    span = np.where(best > worst, best - worst, 1.0)
    losses = chebyshev_loss((best - gains[kept]) / span, trade)
    chosen = kept[int(np.argmin(rounded(losses)))]
    return Front(
        boundary_metric, tuple(points), tuple(points[place] for place in kept), points[chosen], trade, exhaustive
    )


def gains_of(points: Sequence[FrontPoint], boundary_metric: str) -> np.ndarray:
    """(point, 2) overlap and boundary, both so that more is better, in as many decimals as may decide."""
    sign = 1.0 if boundary_of(boundary_metric).higher_is_better else -1.0
    return rounded(np.array([(point.overlap, sign * point.boundary) for point in points]))


def chebyshev_loss(shortfalls: np.ndarray, trade: float) -> np.ndarray:
    """(...,) from (..., 2) shortfalls of overlap and boundary: the larger weighted one, and a trace of both."""
    return (shortfalls * (trade, 1 - trade)).max(axis=-1) + _TIE * shortfalls.sum(axis=-1)


def check_trade(trade: float) -> None:
    """Raise ProstateXferError unless the trade is a share."""
    if not 0 <= trade <= 1:
        raise ProstateXferError(f"A trade of {trade} is impossible: 1 is overlap alone, 0 the boundary alone.")
