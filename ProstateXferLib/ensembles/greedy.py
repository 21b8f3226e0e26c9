# SPDX-License-Identifier: Apache-2.0
"""Greedy forward selection with replacement, after Caruana et al. (ICML 2004, "Ensemble selection from libraries of
models"), on the mean position over five metrics.

A round tries the ensemble so far with each candidate added once more and keeps the one with the best mean position
among those tried. As in the paper, what is added is kept even where it does not help, and the best ensemble on the way
is the result: adding several may help where adding one does not. What the rounds choose by is measured on the cases
that choose, so its numbers are too good; `nested` gives those to report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.evaluator import Evaluator, Remembered
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.ranking import Ranking, RankRule, rank, rounded
from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True, eq=False)
class GreedyStep:
    """One ensemble on the way.

    Attributes:
        added: the candidate this round added; all of the start in the first step.
        counts: how often each candidate is in; those that are not are left out.
        aggregate: (metric,) cohort numbers on the cases that choose.
    """

    added: tuple[str, ...]
    counts: Mapping[str, int]
    aggregate: np.ndarray

    @property
    def members(self) -> Members:
        """The ensemble."""
        return Members.of_counts(self.counts)


@dataclass(frozen=True, eq=False)
class GreedyPath:
    """All steps, and which is the result.

    Attributes:
        steps: from the start on, one candidate more each.
        mean_positions: (step,) of the steps among themselves.
        chosen: number of the best step; of equals the first, which is the smallest.
        stopped: "patience" or "rounds", the rule that ended it.
    """

    steps: tuple[GreedyStep, ...]
    mean_positions: np.ndarray
    chosen: int
    stopped: str

    @property
    def members(self) -> Members:
        """The ensemble that was chosen."""
        return self.steps[self.chosen].members


def select_greedily(
    evaluator: Evaluator,
    cases: Sequence[str],
    *,
    names: Sequence[str],
    rounds: int = 20,
    patience: int = 5,
    start: int = 1,
    rule: RankRule = "aggregate",
) -> GreedyPath:
    """Choose members and how often each counts.

    Args:
        evaluator: asked for about `rounds` x candidates ensembles.
        cases: that choose.
        names: candidates; of equals the earlier one wins, so an exact copy of a candidate is never taken.
        rounds: most candidates added after the start.
        patience: rounds without a new best step after which it stops.
        start: this many of the best single candidates begin together (the paper's sorted initialisation): candidates
            that help only in company are out of reach from one.
        rule: of the ranking.

    Raises:
        ProstateXferError: no or repeated candidates, or counts out of range.
    """
    if not names or len(set(names)) < len(names):
        raise ProstateXferError("Selection needs candidates, each of them once.")
    if rounds < 0 or patience < 1 or not 1 <= start <= len(names):
        raise ProstateXferError(
            f"Selection starts with 1 to {len(names)} candidates, adds 0 or more and waits 1 round or more."
        )
    ask = Remembered(evaluator)
    cases = tuple(cases)
    singles = {name: ask(Members.of_counts({name: 1}), cases) for name in names}
    first = _distinct_ranking(singles, rule).order[:start]
    if len(first) < start:
        raise ProstateXferError(f"Only {len(first)} candidates differ from each other: start with at most as many.")
    order = (*first, *(name for name in names if name not in first))
    counts = Counter(first)
    tables = [ask(Members.of_counts(counts), cases)]
    steps = [GreedyStep(first, dict(counts), tables[0].aggregate())]
    best, positions = _best_step(tables, rule)
    while len(steps) <= rounds and len(steps) - 1 - best < patience:
        tried = {name: ask(Members.of_counts(counts + Counter([name])), cases) for name in order}
        added = _distinct_ranking(tried, rule).order[0]
        counts += Counter([added])
        tables.append(tried[added])
        steps.append(GreedyStep((added,), dict(counts), tried[added].aggregate()))
        best, positions = _best_step(tables, rule)
    return GreedyPath(tuple(steps), positions, best, "rounds" if len(steps) > rounds else "patience")


def _best_step(tables: Sequence[CaseMetrics], rule: RankRule) -> tuple[int, np.ndarray]:
    """The first of the steps with the best mean position among them, and all mean positions."""
    positions = rank({str(number): table for number, table in enumerate(tables)}, rule).mean_positions
    return int(np.argmin(rounded(positions))), positions


def _distinct_ranking(methods: Mapping[str, CaseMetrics], rule: RankRule) -> Ranking:
    """The ranking of the first of each set of equal methods: a copy must not push back what it is better than twice."""
    distinct: dict[bytes, str] = {}
    for name, table in methods.items():
        distinct.setdefault(rounded(table.values).tobytes(), name)
    return rank({name: methods[name] for name in distinct.values()}, rule)
