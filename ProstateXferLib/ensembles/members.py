# SPDX-License-Identifier: Apache-2.0
"""An ensemble as names and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Members:
    """Who is in an ensemble: names in alphabetical order, each once, with weights above 0 that sum to 1.

    A candidate chosen twice has twice the weight. The order is fixed so that equal ensembles are equal objects, and so
    that whoever averages them in this order gets the same rounding every time.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.weights):
            raise ProstateXferError("An ensemble needs at least one member, and one weight for each.")
        if list(self.names) != sorted(set(self.names)):
            raise ProstateXferError("The members of an ensemble are listed once each, in alphabetical order.")
        if not all(math.isfinite(w) and w > 0 for w in self.weights) or abs(math.fsum(self.weights) - 1) > _ROUNDING:
            raise ProstateXferError(f"An ensemble's weights are above 0 and sum to 1, not {self.weights}.")

    @classmethod
    def of_counts(cls, counts: Mapping[str, int]) -> Members:
        """Weights from how often each candidate was chosen; who was not chosen is no member.

        Counts of one proportion (1:1, 2:2) give equal objects: a quotient of integers is rounded once, to one float.
        """
        chosen = {name: counts[name] for name in sorted(counts) if counts[name]}
        if any(count < 0 for count in chosen.values()):
            raise ProstateXferError("No candidate can be chosen less than 0 times.")
        total = sum(chosen.values())
        return cls(tuple(chosen), tuple(count / total for count in chosen.values()))

    @classmethod
    def equal(cls, names: tuple[str, ...] | list[str]) -> Members:
        """The plain mean; a name given twice counts twice."""
        return cls.of_counts({name: list(names).count(name) for name in names})

    def __str__(self) -> str:
        """Names and weights in one line."""
        return ", ".join(f"{name} {weight:.3g}" for name, weight in zip(self.names, self.weights, strict=True))
