# SPDX-License-Identifier: Apache-2.0
"""What a calibration is told."""

import math
from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError

LEAST_PATIENTS = 3
"""Fewer leave one patient to fit on, and an interval over patients says nothing."""


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """How voxels are chosen and temperatures are tested.

    Attributes:
        data: on what, in a phrase for the card.
        structures: names of those to calibrate; empty takes all that a reference shows.
        region_mm: voxels count within this distance of the reference or of where the model sees the structure.
        folds: of patients; fewer patients make as many folds as there are.
        seed: of the folds and of the bootstrap.
        tta: whether mirrorings are averaged, now and whenever the temperature holds.
    """

    data: str
    structures: tuple[str, ...] = ()
    region_mm: float = 10.0
    folds: int = 5
    seed: int = 0
    tta: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.region_mm) and self.region_mm >= 0):
            raise ProstateXferError(f"A region of {self.region_mm} mm is impossible: give 0 or more.")
        if self.folds < 2:
            raise ProstateXferError(
                f"{self.folds} fold(s) leave nothing to test on: give 2 or more, at most as many as patients."
            )
