# SPDX-License-Identifier: Apache-2.0
"""Weights that trade volumetric overlap (Dice) against boundary accuracy (NSD, HD95 or MASD).

Augmentation alone moved PANTHER's winners along this line: aggressive, the best Dice; default, the best boundaries
(papers.md 004). What is measured is the ensemble itself and not the mean of its members' numbers, so there are no
gradients, and ensembles may be better than each member in both. Weights are multiples of 1/`steps`: all of them where
they are few, otherwise a search from several starts with several trades.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ProstateXferLib.ensembles.evaluator import Evaluator
from ProstateXferLib.ensembles.front import (
    Front,
    FrontPoint,
    boundary_of,
    chebyshev_loss,
    check_trade,
    front_of,
    gains_of,
)
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.errors import ProstateXferError

_TRADES = (0.5, 0.0, 1.0, 0.25, 0.75)
"""Searched one after another, after the caller's; the ends before what lies between, as the budget may end."""
Counts = tuple[int, ...]


def scan_weights(
    evaluator: Evaluator,
    cases: Sequence[str],
    *,
    names: Sequence[str],
    boundary: str = "nsd",
    trade: float = 0.5,
    steps: int = 10,
    most: int = 1000,
    random_starts: int = 2,
    seed: int = 0,
) -> Front:
    """The front of overlap and boundary over mixtures of the candidates, and the mixture that `trade` takes.

    Args:
        evaluator, cases: the cases that choose; `nested` gives the numbers to report.
        names: candidates.
        boundary: "nsd", "hd95" or "masd".
        trade: 1 takes the best overlap, 0 the best boundary (`front.front_of`).
        steps: weights are multiples of 1/steps.
        most: ensembles that are measured at most. Where the grid has more, a coordinate search moves weight from one
            member to another, half of it first and then less, with `trade` and five others, from the best single
            candidate, from equal weights and from `random_starts` drawn with `seed`; it ends early at this number.

    Raises:
        ProstateXferError: no or repeated candidates, numbers out of range.
    """
    _check(names, steps, most, random_starts)
    check_trade(trade)
    boundary_of(boundary)
    names = tuple(names)
    search = _Search(evaluator, tuple(cases), names, boundary, most)
    exhaustive = grid_size(len(names), steps) <= most
    if exhaustive:
        for counts in simplex_grid(len(names), steps):
            search.point(counts)
    else:
        _search_grid(search, steps, random_starts, seed, trade)
    return front_of(tuple(search.points.values()), boundary, trade=trade, exhaustive=exhaustive)


def simplex_grid(members: int, steps: int) -> Iterator[Counts]:
    """Every way to share `steps` equal parts among the members, in a fixed order, the first member's whole last."""
    if members == 1:
        yield (steps,)
        return
    for first in range(steps + 1):
        for rest in simplex_grid(members - 1, steps - first):
            yield (first, *rest)


def grid_size(members: int, steps: int) -> int:
    """How many ways `simplex_grid` gives."""
    return math.comb(steps + members - 1, members - 1)


class _Search:
    """What was measured so far, by the members' counts; never more than `most` points."""

    def __init__(
        self, evaluator: Evaluator, cases: tuple[str, ...], names: tuple[str, ...], boundary: str, most: int
    ) -> None:
        self._evaluator, self._cases, self.names, self._boundary, self._most = evaluator, cases, names, boundary, most
        self.points: dict[Counts, FrontPoint] = {}

    def point(self, counts: Counts) -> FrontPoint | None:
        """The ensemble's place; None where it is new and no more may be measured."""
        if counts not in self.points:
            if len(self.points) >= self._most:
                return None
            members = Members.of_counts(dict(zip(self.names, counts, strict=True)))
            metrics = self._evaluator(members, self._cases)
            self.points[counts] = FrontPoint.of(members, metrics, self._boundary)
        return self.points[counts]

    def gains(self, counts: Sequence[Counts]) -> np.ndarray:
        """(point, 2) overlap and boundary of ensembles that were measured; more is better."""
        return gains_of([self.points[one] for one in counts], self._boundary)


def _search_grid(search: _Search, steps: int, random_starts: int, seed: int, first_trade: float) -> None:
    """Measure the corners, then descend from every start with every trade."""
    count = len(search.names)
    corners = [tuple(steps * (k == place) for k in range(count)) for place in range(count)]
    for corner in corners:
        search.point(corner)
    corner_gains = search.gains(corners)
    span = np.ptp(corner_gains, axis=0)
    span[span == 0] = 1.0
    # One span beyond the best corner, so that ensembles better than every member still gain.
    ideal = corner_gains.max(axis=0) + span
    random = np.random.default_rng(seed)
    drawn = [tuple(random.multinomial(steps, np.full(count, 1 / count)).tolist()) for _ in range(random_starts)]
    even = tuple(steps // count + (place < steps % count) for place in range(count))
    for trade in dict.fromkeys((first_trade, *_TRADES)):
        best_corner = corners[int(np.argmin(chebyshev_loss((ideal - corner_gains) / span, trade)))]
        for start in (best_corner, even, *drawn):
            _descend(search, start, ideal, span, trade)


def _descend(search: _Search, start: Counts, ideal: np.ndarray, span: np.ndarray, trade: float) -> None:
    """From a start to the best neighbour, again and again; smaller moves where larger ones no longer help."""
    here = start
    if search.point(here) is None:
        return
    size = max(1, sum(start) // 2)
    while size:
        # The place itself comes first: of equals it is kept, so the loss falls with every move and the loop ends.
        tried = [here, *(counts for counts in _neighbours(here, size) if search.point(counts) is not None)]
        losses = chebyshev_loss((ideal - search.gains(tried)) / span, trade)
        best = tried[int(np.argmin(losses))]
        size, here = (size // 2, here) if best == here else (size, best)


def _neighbours(counts: Counts, size: int) -> Iterator[Counts]:
    """All counts with `size` parts (or what there is, if less) moved from one member to another."""
    for source, there in enumerate(counts):
        for target in range(len(counts)):
            if there and target != source:
                moved = list(counts)
                moved[source] -= min(size, there)
                moved[target] += min(size, there)
                yield tuple(moved)


def _check(names: Sequence[str], steps: int, most: int, random_starts: int) -> None:
    if not names or len(set(names)) < len(names):
        raise ProstateXferError("A mixture needs candidates, each of them once.")
    if steps < 1 or random_starts < 0 or most < len(names):
        raise ProstateXferError(
            f"A search of weights takes 1 step or more, no negative number of starts, and measures at least the "
            f"{len(names)} candidates."
        )
