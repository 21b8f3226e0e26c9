# SPDX-License-Identifier: Apache-2.0
"""What every candidate is worth on the same cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Candidates by name, all with metrics of the same cases in the same order.

    A candidate's metrics must be of cases that it was not trained on: for the folds of one recipe, put together, the
    out-of-fold predictions of all cases; for single folds side by side, cases that none of them saw. No number in this
    table can tell, so who makes it must (the split is in each run's `candidates.json`).

    Attributes:
        candidates: name -> metrics; read-only.
        left_out: cases that were dropped for all candidates because one had no result (`reading`).
    """

    candidates: Mapping[str, CaseMetrics]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ProstateXferError("There is nothing to choose from: give at least one candidate.")
        cases = self.cases
        for name, metrics in self.candidates.items():
            if metrics.cases != cases:
                raise ProstateXferError(
                    f"The candidate '{name}' has other cases than the first: measure all on the same."
                )
        object.__setattr__(self, "candidates", MappingProxyType(dict(self.candidates)))

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates in their order, which breaks ties."""
        return tuple(self.candidates)

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases that all candidates have."""
        return next(iter(self.candidates.values())).cases
