# SPDX-License-Identifier: Apache-2.0
"""What a selection begins with: cases, and for every candidate the model that predicts each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class PlannedCase:
    """One case and its files.

    Attributes:
        name: unique in the plan.
        image: the models' first sequence, on whose grid everything is measured.
        reference: label map on that grid.
        patient: cases of one patient never choose and report at once.
        others: further sequences by their names in small letters ("adc"), for models that take them.
    """

    name: str
    image: Path
    reference: Path
    patient: str
    others: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """One recipe, arm or kind of weights.

    Attributes:
        name: for tables.
        models: case -> the checkpoint (a path, or a registered name) that was not trained on that case. Of the folds
            of one recipe each predicts its own cases; a single checkpoint predicts all.
    """

    name: str
    models: Mapping[str, Path | str]

    @property
    def distinct_models(self) -> tuple[Path | str, ...]:
        """Each of its models once, in the order of the cases."""
        return tuple(dict.fromkeys(self.models.values()))


@dataclass(frozen=True)
class Plan:
    """Cases and candidates; every candidate predicts every case.

    Raises:
        ProstateXferError: fewer than two candidates, or a candidate that lacks a case.
    """

    cases: tuple[PlannedCase, ...]
    candidates: tuple[Candidate, ...]

    def __post_init__(self) -> None:
        if len(self.candidates) < 2:
            raise ProstateXferError(
                f"The plan has {len(self.candidates)} candidate(s): there is something to choose from two on."
            )
        for candidate in self.candidates:
            missing = [case.name for case in self.cases if case.name not in candidate.models]
            if missing:
                raise ProstateXferError(
                    f"The candidate '{candidate.name}' has no model for the case '{missing[0]}' ({len(missing)} of "
                    f"{len(self.cases)} cases): every candidate must predict the same cases, so add a row for each or "
                    "leave those cases out."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates in their order."""
        return tuple(candidate.name for candidate in self.candidates)

    @property
    def patients(self) -> Mapping[str, str]:
        """Case -> patient."""
        return MappingProxyType({case.name: case.patient for case in self.cases})
