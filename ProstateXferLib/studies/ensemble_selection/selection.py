# SPDX-License-Identifier: Apache-2.0
"""What a selection found, before it is written anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.front import Front, FrontPoint
from ProstateXferLib.ensembles.nested import NestedResult
from ProstateXferLib.ensembles.ranking import Ranking
from ProstateXferLib.studies.ensemble_selection.opened_plan import OpenedPlan
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions


@dataclass(frozen=True)
class Effort:
    """What a selection took.

    Attributes:
        predicted, found: predictions made by this run, and kept from before.
        measured: how many times an ensemble was measured on a case.
        measuring_seconds: for all of these.
        started_utc, seconds: when, and for how long.
    """

    predicted: int
    found: int
    measured: int
    measuring_seconds: float
    started_utc: str
    seconds: float

    @property
    def milliseconds_each(self) -> float:
        """For one ensemble on one case."""
        return 1000 * self.measuring_seconds / max(1, self.measured)


@dataclass(frozen=True, eq=False)
class Selection:
    """The choice, its worth, and what it was made of.

    Attributes:
        opened: plan and checkpoints.
        options: how it was chosen.
        nested: held-out comparison with the baseline, and the final ensemble.
        singles: metrics of every candidate alone, on all cases.
        ranking: of the candidates alone.
        front: of all ensembles that were measured on all cases, the final one marked.
        baseline_point: the final baseline's place beside it.
        image_sha256: case -> sequence ("" the first) -> hash of the image.
        warnings: what the reader must know.
        effort: what it took.
    """

    opened: OpenedPlan
    options: SelectionOptions
    nested: NestedResult
    singles: Mapping[str, CaseMetrics]
    ranking: Ranking
    front: Front
    baseline_point: FrontPoint
    image_sha256: Mapping[str, Mapping[str, str]]
    warnings: tuple[str, ...]
    effort: Effort

    @property
    def verdict(self) -> str:
        """The sentence: on how many held-out cases, and whether the chosen ensemble beats the baseline."""
        return f"{str(self.nested).splitlines()[0].partition(' (')[0]}."
