# SPDX-License-Identifier: Apache-2.0
"""Who is best over five metrics at once: the mean of the positions.

The order is PANTHER's (mean position over Dice, surface Dice, HD95, MASD and volume RMSE; papers.md 004). Two rules:

* "aggregate" (default, the challenge's): cases become one number a metric, then methods are put in order of it.
* "case": methods are put in order on every case, then positions are averaged; one bad case counts no more than another.

Equals share the mean of their positions [our choice]. A position says only who is before whom, and depends on who else
takes part: a third method can turn the order of two others around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ProstateXferLib.ensembles.case_metrics import METRICS, CaseMetrics
from ProstateXferLib.errors import ProstateXferError

RankRule = Literal["aggregate", "case"]

_DECIMALS = 7
"""In which two numbers must differ: sums in another order differ in the 16th digit, numbers from a CSV in the 10th."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods in the order they were given.

    Attributes:
        names: of the methods.
        aggregates: (method, metric) cohort numbers, units of METRICS.
        positions: (method, metric) 1 is best; with the rule "case" the mean over cases.
        mean_positions: (method,) over the metrics.
    """

    names: tuple[str, ...]
    aggregates: np.ndarray
    positions: np.ndarray
    rule: RankRule

    @property
    def mean_positions(self) -> np.ndarray:
        """(method,) mean over the metrics; the smallest is the best method."""
        return self.positions.mean(axis=1)

    @property
    def order(self) -> tuple[str, ...]:
        """Names from the best to the worst; equals in the order they were given."""
        # Rounded: means of halves and thirds that are equal differ in the last bit.
        return tuple(self.names[place] for place in np.argsort(rounded(self.mean_positions), kind="stable"))


def rank(methods: Mapping[str, CaseMetrics], rule: RankRule = "aggregate") -> Ranking:
    """Positions of methods that were measured on the same cases.

    Raises:
        ProstateXferError: no method, other cases, an unknown rule.
    """
    if rule not in get_args(RankRule):
        raise ProstateXferError(f"The ranking rule '{rule}' is unknown; use one of {', '.join(get_args(RankRule))}.")
    tables = list(methods.values())
    if not tables:
        raise ProstateXferError("There is nothing to rank: give at least one method.")
    if any(table.cases != tables[0].cases for table in tables):
        raise ProstateXferError("Methods can be ranked on the same cases only: measure all on the same.")
    aggregates = np.array([table.aggregate() for table in tables])
    if rule == "aggregate":
        positions = positions_of(aggregates)
    else:
        values = np.array([table.values for table in tables])
        positions = np.mean([positions_of(values[:, case]) for case in range(values.shape[1])], axis=0)
    return Ranking(tuple(methods), aggregates, positions, rule)


def positions_of(values: np.ndarray) -> np.ndarray:
    """(method, metric) numbers, columns as METRICS, to positions in each column: 1 is best, equals share the mean."""
    from scipy.stats import rankdata

    signs = np.array([-1.0 if metric.higher_is_better else 1.0 for metric in METRICS])
    return rankdata(rounded(values) * signs, axis=0)


def rounded(values: np.ndarray) -> np.ndarray:
    """The numbers to as many decimals as may decide."""
    return np.round(values, _DECIMALS)
