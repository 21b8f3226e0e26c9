# SPDX-License-Identifier: Apache-2.0
"""The question that every choice asks: how good is this ensemble on these cases?"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.errors import ProstateXferError


class Evaluator(Protocol):
    """Averages the members' predictions of each case and measures the result.

    The same members and case give the same metrics, whatever else was asked before. It is asked for one ensemble at a
    time, so that it can report progress and stop the whole choice by raising `CancelledError`.
    """

    def __call__(self, members: Members, cases: tuple[str, ...]) -> CaseMetrics:
        """Metrics of the ensemble on these cases, in their order."""


class Remembered:
    """An evaluator that measures each ensemble once on each case: folds overlap, and searches come back."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._rows: dict[Members, dict[str, np.ndarray]] = {}

    def __call__(self, members: Members, cases: tuple[str, ...]) -> CaseMetrics:
        """Metrics of the ensemble on these cases, in their order."""
        rows = self._rows.setdefault(members, {})
        if missing := tuple(case for case in cases if case not in rows):
            found = measured(self._evaluator, members, missing)
            rows.update(zip(missing, found.values, strict=True))
        return CaseMetrics(tuple(cases), np.array([rows[case] for case in cases]))

    def known(self, cases: tuple[str, ...]) -> dict[Members, CaseMetrics]:
        """Every ensemble that was measured on all of these cases, in the order in which they were first asked for."""
        return {members: self(members, cases) for members, rows in self._rows.items() if rows.keys() >= set(cases)}


class OnlyCases:
    """An evaluator that refuses all but some cases: what chooses cannot see what reports."""

    def __init__(self, evaluator: Evaluator, cases: Sequence[str]) -> None:
        self._evaluator = evaluator
        self._allowed = frozenset(cases)

    def __call__(self, members: Members, cases: tuple[str, ...]) -> CaseMetrics:
        """Metrics of the ensemble on these cases; an error where one of them is not to be seen."""
        if hidden := set(cases) - self._allowed:
            raise ProstateXferError(
                f"The case '{min(hidden)}' is held out and must not take part in the choice: choose on the cases given."
            )
        return measured(self._evaluator, members, cases)


def measured(evaluator: Evaluator, members: Members, cases: tuple[str, ...]) -> CaseMetrics:
    """What the evaluator says, checked to be of the cases that were asked for."""
    found = evaluator(members, cases)
    if found.cases != cases:
        raise ProstateXferError(f"The ensemble ({members}) was measured on other cases than asked: match them by name.")
    return found
