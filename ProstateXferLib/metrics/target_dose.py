# SPDX-License-Identifier: Apache-2.0
"""The dose error where the dose is high."""

import math

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.masks import Mask, check_same_grid, foreground


def target_dose_mae(reference_dose: Mask, evaluated_dose: Mask, prescribed: float, *, threshold: float = 0.9) -> float:
    """Mean of |evaluated - reference| / prescribed over the voxels with at least `threshold` of the prescribed dose.

    SynthRAD's "MAE target" (prescribed dose per fraction: 2 Gy brain, 3 Gy pelvis). The reference decides where; NaN
    where it reaches the threshold nowhere. Arrays (z, y, x) or images on one grid, in the unit of `prescribed`.
    """
    check_same_grid(reference_dose, evaluated_dose, ("reference dose", "evaluated dose"))
    if not (math.isfinite(prescribed) and prescribed > 0):
        raise ProstateXferError(f"A prescribed dose of {prescribed} is impossible; give the dose above zero.")
    truth, found = (_dose(dose) for dose in (reference_dose, evaluated_dose))
    high = truth >= threshold * prescribed
    return float(np.abs(found[high] - truth[high]).mean()) / prescribed if high.any() else math.nan


def _dose(dose: Mask) -> np.ndarray:
    foreground(dose, "dose")
    array = sitk.GetArrayFromImage(dose) if isinstance(dose, sitk.Image) else np.asarray(dose)
    return array.astype(np.float64)
