# SPDX-License-Identifier: Apache-2.0
"""How a cohort is evaluated: one frozen object for the command line, the worker processes and the report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.metrics.empty_masks import EmptyRule, check_empty_rule
from ProstateXferLib.metrics.lesion_strata import Stratum, volume_strata
from ProstateXferLib.metrics.surface import SurfaceDefinition

Kind = Literal["segmentation", "sct"]

THRESHOLDS = (0.01, 0.02, *(round(0.05 * k, 2) for k in range(1, 20)), 0.99)
"""Where probability maps are cut for their curves."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is compared, and by which definitions.

    Attributes:
        kind: label maps, or synthetic CTs in HU.
        methods: name of the method whose predictions these are, and of a second one where two are compared.
        prediction_names, reference_names: what the values of plain label maps mean; a `.seg.nrrd` knows its own.
        structures: names of those to evaluate; empty means all that both sides know.
        resample: bring predictions on another grid to the reference's; otherwise they are refused.
        tolerances_mm, surface: of the surface metrics.
        empty: what a metric is worth where a mask is empty.
        strata_edges_cm3: of the lesion-volume strata.
        target_lesion_cm3: detection is also given for lesions of at least this volume alone.
        hu_range: of PSNR, SSIM and MS-SSIM.
        resamples, seed: of the bootstrap intervals.
        worst: how many of the worst cases the report shows.
    """

    kind: Kind = "segmentation"
    methods: tuple[str, ...] = ("prediction",)
    prediction_names: LabelNames = field(default_factory=LabelNames)
    reference_names: LabelNames = field(default_factory=LabelNames)
    structures: tuple[str, ...] = ()
    resample: bool = False
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    surface: SurfaceDefinition = "voxel"
    empty: EmptyRule = "best_worst"
    strata_edges_cm3: tuple[float, ...] = (1.0, 2.0)
    target_lesion_cm3: float = 1.0
    hu_range: tuple[float, float] = (-1024.0, 3000.0)
    thresholds: tuple[float, ...] = THRESHOLDS
    resamples: int = 1000
    seed: int = 0
    worst: int = 4

    def __post_init__(self) -> None:
        """Refuse before any work what could only fail after it."""
        check_empty_rule(self.empty)
        volume_strata(self.strata_edges_cm3)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ProstateXferError("The two methods need different names: give them with --method-names.")
        if any(not (math.isfinite(t) and t >= 0) for t in self.tolerances_mm) or not self.tolerances_mm:
            raise ProstateXferError("Surface tolerances are one or more distances of 0 mm or more, as 1 2.")
        if len(set(self.tolerances_mm)) < len(self.tolerances_mm):
            raise ProstateXferError("Each surface tolerance is needed once; leave the repeated one out.")
        low, high = self.hu_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ProstateXferError(f"The HU range {low:g} to {high:g} is empty; its second number must be the larger.")
        if self.target_lesion_cm3 < 0 or not math.isfinite(self.target_lesion_cm3):
            raise ProstateXferError("The least volume of a target lesion is 0 cm³ or more.")

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """The lesion-volume strata."""
        return volume_strata(self.strata_edges_cm3)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for evaluation.json and the report."""
        return {
            "kind": self.kind,
            "methods": list(self.methods),
            "prediction_names": self.prediction_names.to_json(),
            "reference_names": self.reference_names.to_json(),
            "structures": list(self.structures),
            "resample": self.resample,
            "tolerances_mm": list(self.tolerances_mm),
            "surface": self.surface,
            "empty": self.empty,
            "strata_edges_cm3": list(self.strata_edges_cm3),
            "target_lesion_cm3": self.target_lesion_cm3,
            "hu_range": list(self.hu_range),
            "thresholds": list(self.thresholds),
            "resamples": self.resamples,
            "seed": self.seed,
        }
