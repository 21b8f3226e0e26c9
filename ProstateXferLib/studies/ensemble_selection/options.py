# SPDX-License-Identifier: Apache-2.0
"""How a selection is made: one frozen object for the command line, the report and the record."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ProstateXferLib.checkpoints.ensemble_card import checked_average
from ProstateXferLib.ensembles.baseline import SLOTS
from ProstateXferLib.ensembles.front import boundary_of, check_trade
from ProstateXferLib.ensembles.ranking import RankRule
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames

Method = Literal["greedy", "simplex"]


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """What is chosen by, and how its worth is measured.

    Attributes:
        structure: whose metrics decide; "" where the candidates find one structure alone.
        reference_names: what the values of plain reference label maps mean; a `.seg.nrrd` knows its own.
        tolerance_mm: of the NSD; PANTHER takes 5 mm (papers.md 004).
        average: "probability" or "logit", of the members.
        method: "greedy" (ensembles/greedy.py) or "simplex" (ensembles/simplex.py).
        rule: how the ranking makes one number of many cases.
        rounds, patience: of the greedy selection.
        boundary, trade, steps, most: of the weights on the simplex; the first two also of the front's figure.
        folds, seed: of the outer folds, the bootstrap and the search.
        baseline: names of candidates that are averaged equally; empty takes the best `slots` of the choosing cases.
        slots: how many, or all candidates where there are fewer.
        device, precision, tta: of the predictions.
    """

    structure: str = ""
    reference_names: LabelNames = field(default_factory=LabelNames)
    tolerance_mm: float = 5.0
    average: str = "probability"
    method: Method = "greedy"
    rule: RankRule = "aggregate"
    rounds: int = 20
    patience: int = 5
    boundary: str = "nsd"
    trade: float = 0.5
    steps: int = 10
    most: int = 300
    folds: int = 5
    seed: int = 0
    baseline: tuple[str, ...] = ()
    slots: int = SLOTS
    device: str = "auto"
    precision: str = "auto"
    tta: bool = False

    def __post_init__(self) -> None:
        """Refuse before any work what could only fail after it."""
        checked_average(self.average)
        check_trade(self.trade)
        boundary_of(self.boundary)
        if self.method not in get_args(Method):
            raise ProstateXferError(f"The method '{self.method}' is unknown; use one of {', '.join(get_args(Method))}.")
        if self.rule not in get_args(RankRule):
            raise ProstateXferError(f"The rule '{self.rule}' is unknown; use one of {', '.join(get_args(RankRule))}.")
        if not (math.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise ProstateXferError(f"The NSD's tolerance is 0 mm or more, not {self.tolerance_mm}.")
        if self.folds < 2 or min(self.rounds, self.patience, self.steps, self.most, self.slots) < 1:
            raise ProstateXferError(
                "A selection takes 2 outer folds or more, and at least 1 round, 1 step, 1 slot and 1 ensemble."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for selection.json and the report."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "reference_names": self.reference_names.to_json(), "baseline": list(self.baseline)}
