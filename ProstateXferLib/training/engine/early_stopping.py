# SPDX-License-Identifier: Apache-2.0
"""Which validation was the best so far, and whether it is time to stop."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.recipe.schema import Selection


@dataclass(frozen=True)
class Selected:
    """Weights by how they were chosen: `value` of `metric` after `step` steps; None where nothing was validated."""

    metric: str
    value: float | None
    step: int


class Best:
    """The best validation so far.

    Args:
        selection: metric and direction.
        patience: validations without improvement that end the stage; 0 for never.

    Attributes:
        selected: the best one; None before the first that is no NaN.
        latest: the last one.
    """

    def __init__(self, selection: Selection, patience: int) -> None:
        self._selection, self._patience = selection, patience
        self.selected: Selected | None = None
        self.latest: Selected | None = None
        self._stale = 0

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._patience <= self._stale

    def offer(self, values: Mapping[str, float], step: int) -> bool:
        """Take in one validation; whether it is the best so far. NaN is never better.

        Raises:
            ProstateXferError: the recipe's metric is not among the values.
        """
        metric = self._selection.metric
        if metric not in values:
            raise ProstateXferError(
                f"The selection's metric '{metric}' is not validated: choose one of {', '.join(values) or '(none)'}."
            )
        value = float(values[metric])
        sign = 1 if self._selection.higher_is_better else -1
        better = not math.isnan(value) and (self.selected is None or sign * value > sign * self.selected.value)
        self.latest = Selected(metric, value, step)
        if better:
            self.selected = self.latest
        self._stale = 0 if better else self._stale + 1
        return better

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"selected": _plain(self.selected), "latest": _plain(self.latest), "stale": self._stale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from plain values."""
        self.selected, self.latest = (Selected(**state[key]) if state[key] else None for key in ("selected", "latest"))
        self._stale = state["stale"]


def _plain(selected: Selected | None) -> dict[str, Any] | None:
    return None if selected is None else dataclasses.asdict(selected)
