# SPDX-License-Identifier: Apache-2.0
"""What a way of choosing is worth: the cases that choose are not the cases that report.

In each outer fold an ensemble is chosen on the other folds' patients and measured on this fold's, whom the choice
cannot see (`evaluator.OnlyCases` refuses them). The held-out numbers of all folds together, every case once, are
compared with those of a baseline that is chosen the same way. They speak of the way of choosing; the ensemble to use is
then chosen on all cases.

What this does not undo: the candidates themselves were trained, and their "best" weights selected, before; where the
training or selection of one saw a case that reports here, its numbers are too good in both arms. Nor are the folds
independent (their choosing cases overlap), so intervals are somewhat too narrow; no unbiased estimate exists (Bengio
and Grandvalet, J Mach Learn Res 2004;5:1089-1105).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ProstateXferLib.ensembles.case_metrics import METRICS, CaseMetrics
from ProstateXferLib.ensembles.evaluator import Evaluator, OnlyCases, Remembered, measured
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.paired_difference import MetricDifference, paired_differences
from ProstateXferLib.ensembles.patient_folds import OuterFold, patient_folds
from ProstateXferLib.errors import ProstateXferError


class Chooser(Protocol):
    """A way of choosing, such as `lambda ask, cases: select_greedily(ask, cases, names=names).members`."""

    def __call__(self, evaluator: Evaluator, cases: tuple[str, ...]) -> Members:
        """The ensemble for these cases, and for no others that the evaluator knows."""


@dataclass(frozen=True, eq=False)
class FoldChoice:
    """One outer fold: what was chosen on its choosing cases, and both arms' metrics of its reporting cases."""

    fold: OuterFold
    chosen: Members
    baseline: Members
    chosen_metrics: CaseMetrics
    baseline_metrics: CaseMetrics


@dataclass(frozen=True, eq=False)
class NestedResult:
    """The comparison on held-out cases.

    Attributes:
        folds: each with its choice.
        differences: chosen minus baseline over the held-out cases of all folds, one a metric.
        final: the ensemble chosen on all cases, which is the one to use.
        final_baseline: the baseline on all cases.
        apparent: differences of those two on the cases that chose; too good, given to show by how much.
        confidence: of the intervals.
    """

    folds: tuple[FoldChoice, ...]
    differences: tuple[MetricDifference, ...]
    final: Members
    final_baseline: Members
    apparent: tuple[MetricDifference, ...]
    confidence: float

    @property
    def verdict(self) -> str:
        """ "beats" where a metric is shown to be better and none worse, "loses" the reverse, "trades" where there are
        both, "ties" where neither was shown."""
        outcomes = {difference.outcome for difference in self.differences}
        if "better" in outcomes:
            return "trades" if "worse" in outcomes else "beats"
        return "loses" if "worse" in outcomes else "ties"

    def __str__(self) -> str:
        """By how much the chosen ensemble beats the baseline on held-out cases, or that it does not."""
        verdict = {
            "beats": "beats the baseline",
            "loses": "does not beat the baseline: it is worse",
            "trades": "does not beat the baseline: it is better in some metrics and worse in others",
            "ties": "was not shown to beat the baseline",
        }[self.verdict]
        cases = sum(len(fold.fold.reporting) for fold in self.folds)
        lines = [
            f"On {cases} held-out cases of {self.differences[0].patients} patients the chosen ensemble {verdict} "
            f"(chosen minus baseline, {100 * self.confidence:g} % intervals, Wilcoxon with Holm's correction):",
            *(f"  {difference}" for difference in self.differences),
        ]
        return "\n".join(lines)


def nested_cross_validation(
    evaluator: Evaluator,
    cases: Sequence[str],
    *,
    choose: Chooser,
    baseline: Chooser,
    patients: Mapping[str, str] | None = None,
    folds: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> NestedResult:
    """Compare two ways of choosing on cases that neither chose on.

    Args:
        evaluator: asked for each ensemble once a case, over all folds.
        cases: that all candidates have metrics of.
        choose, baseline: the way that is tested, and what it must beat (`baseline.equal_slots`, `best_slots`).
        patients: case -> patient; None says that every case is a patient of its own.
        folds, seed: of the outer folds and the bootstrap.
        confidence, resamples: of the intervals.

    Raises:
        ProstateXferError: cases named twice, fewer patients than folds, or a choice that asked for held-out cases.
    """
    if len(set(cases)) < len(cases):
        raise ProstateXferError("A case is named twice: each case reports once.")
    ask = Remembered(evaluator)
    found = tuple(
        _fold_choice(ask, fold, choose, baseline) for fold in patient_folds(cases, patients, folds=folds, seed=seed)
    )
    options = {"patients": patients, "confidence": confidence, "resamples": resamples, "seed": seed}
    held_out = [
        _together([getattr(fold, arm) for fold in found], cases) for arm in ("chosen_metrics", "baseline_metrics")
    ]
    every = tuple(cases)
    final, plain = choose(ask, every), baseline(ask, every)
    apparent = paired_differences(ask(final, every), ask(plain, every), **options)
    return NestedResult(found, paired_differences(*held_out, **options), final, plain, apparent, confidence)


def _fold_choice(ask: Evaluator, fold: OuterFold, choose: Chooser, baseline: Chooser) -> FoldChoice:
    seen = OnlyCases(ask, fold.choosing)
    chosen, plain = choose(seen, fold.choosing), baseline(seen, fold.choosing)
    return FoldChoice(fold, chosen, plain, measured(ask, chosen, fold.reporting), measured(ask, plain, fold.reporting))


def _together(parts: Sequence[CaseMetrics], cases: Sequence[str]) -> CaseMetrics:
    """The folds' held-out metrics as one table in the order of the cases."""
    names = tuple(case for part in parts for case in part.cases)
    values = np.concatenate([part.values for part in parts]).reshape(len(names), len(METRICS))
    return CaseMetrics(names, values).of_cases(cases)
