# SPDX-License-Identifier: Apache-2.0
"""The five metrics of one prediction method (a candidate or an ensemble) on each case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class RankedMetric:
    """One of the metrics that decide.

    Attributes:
        key: column of metrics.csv (docs/evaluation.md); the NSD's has its tolerance there.
        higher_is_better: its direction.
        root_mean_square: how cases become one number: the root of the mean square instead of the mean.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool
    root_mean_square: bool = False


METRICS = (
    RankedMetric("dice", "Dice", "", True),
    RankedMetric("nsd", "NSD", "", True),
    RankedMetric("hd95", "HD95", "mm", False),
    RankedMetric("masd", "MASD", "mm", False),
    RankedMetric("volume_error", "Volume RMSE", "cm³", False, root_mean_square=True),
)
"""PANTHER's five (papers.md 004), in its order; it gives the RMSE in mm³, which ranks alike."""
METRIC_KEYS = tuple(metric.key for metric in METRICS)
_SHARES = 2
"""The first columns, which lie between 0 and 1."""


@dataclass(frozen=True, eq=False)
class CaseMetrics:
    """Metrics case by case, none missing (what stands for a miss is decided when they are read: `reading`).

    Attributes:
        cases: unique names.
        values: (case, metric) float64, read-only; columns as METRICS: Dice and NSD 0 to 1, HD95 and MASD in mm, the
            size of the volume error in cm³.
    """

    cases: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if not self.cases or len(set(self.cases)) < len(self.cases):
            raise ProstateXferError("A table of metrics needs cases, each of them once.")
        if values.shape != (len(self.cases), len(METRICS)):
            raise ProstateXferError(
                f"Metrics are numbers (case, metric), here {len(self.cases)} x {len(METRICS)}, not {values.shape}."
            )
        sound = np.isfinite(values) & (values >= 0)
        sound[:, :_SHARES] &= values[:, :_SHARES] <= 1
        if not sound.all():
            case, metric = np.argwhere(~sound)[0]
            raise ProstateXferError(
                f"{METRICS[metric].title} of the case '{self.cases[case]}' is {values[case, metric]:g}: Dice and NSD "
                f"are shares from 0 to 1, distances and volume errors finite and not negative."
            )
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def of_cases(self, cases: Sequence[str]) -> CaseMetrics:
        """The same metrics of some of the cases, in that order."""
        places = {case: place for place, case in enumerate(self.cases)}
        if missing := [case for case in cases if case not in places]:
            raise ProstateXferError(f"There are no metrics of the case '{missing[0]}': measure it as well.")
        return CaseMetrics(tuple(cases), self.values[[places[case] for case in cases]])

    def column(self, key: str) -> np.ndarray:
        """(case,) one metric."""
        return self.values[:, METRIC_KEYS.index(key)]

    def aggregate(self) -> np.ndarray:
        """(metric,) the cohort's numbers: means, and the root mean square of the volume error."""
        return np.array(
            [
                np.sqrt(np.mean(column**2)) if metric.root_mean_square else np.mean(column)
                for metric, column in zip(METRICS, self.values.T, strict=True)
            ]
        )
