# SPDX-License-Identifier: Apache-2.0
"""The volume of a prediction against that of its reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ProstateXferLib.metrics.masks import Mask, check_same_grid
from ProstateXferLib.metrics.shape import volume_cm3


@dataclass(frozen=True)
class VolumeComparison:
    """Two volumes, cm³ (= mL), by counting voxels; an empty mask has 0 and is no special case.

    Relative values do not exist for an empty reference (`relative_difference`) or two empty masks
    (`difference_to_mean`) and are NaN there.
    """

    reference_cm3: float
    prediction_cm3: float

    @property
    def difference_cm3(self) -> float:
        """Prediction minus reference: above zero = too large."""
        return self.prediction_cm3 - self.reference_cm3

    @property
    def absolute_difference_cm3(self) -> float:
        """The same without its sign."""
        return abs(self.difference_cm3)

    @property
    def relative_difference(self) -> float:
        """Difference as a share of the reference's volume; 0.1 = ten per cent too large."""
        return self.difference_cm3 / self.reference_cm3 if self.reference_cm3 else math.nan

    @property
    def difference_to_mean(self) -> float:
        """Difference as a share of the mean of both, -2 to 2; the negative of SimpleITK's "volume similarity"."""
        total = self.prediction_cm3 + self.reference_cm3
        return 2 * self.difference_cm3 / total if total else math.nan


def compare_volumes(reference: Mask, prediction: Mask, spacing_zyx: Sequence[float] | None = None) -> VolumeComparison:
    """Volumes of two masks, arrays (z, y, x) with their spacing in mm or images on one grid."""
    check_same_grid(reference, prediction, ("reference", "prediction"))
    return VolumeComparison(volume_cm3(reference, spacing_zyx), volume_cm3(prediction, spacing_zyx))
