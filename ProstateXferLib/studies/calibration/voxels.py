# SPDX-License-Identifier: Apache-2.0
"""What one case says about the probabilities of one structure: voxels near it, those that say the same counted
together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.metrics.calibration import log_odds
from ProstateXferLib.pipelines.postprocessing import within_mm

_STEP = 0.01
"""Of log-odds that count as the same: at p = 0.5, where it shows most, a quarter of a percent."""
_SEEN = 0.5


@dataclass(frozen=True, eq=False)
class CaseVoxels:
    """Arrays (n,): a probability, whether it came true, and how many voxels of the case are so.

    Attributes:
        case, patient: whose.
        probability: float64, the mean over those counted together.
        happened: bool, in the reference.
        voxels: int64.
    """

    case: str
    patient: str
    probability: np.ndarray
    happened: np.ndarray
    voxels: np.ndarray


def near_structure(
    probability_zyx: np.ndarray, reference_zyx: np.ndarray, spacing_zyx: Sequence[float], region_mm: float
) -> np.ndarray:
    """bool (z, y, x): within `region_mm` of the reference or of where the probability reaches one half.

    A volume is nearly all background that every model is rightly sure of: counted whole, it would make any model look
    calibrated. Empty where the reference has nothing and the model sees nothing.
    """
    core = (reference_zyx > 0) | (probability_zyx >= _SEEN)
    return within_mm(core, region_mm, spacing_zyx) if core.any() else core


def case_voxels(
    probability_zyx: np.ndarray, reference_zyx: np.ndarray, region_zyx: np.ndarray, *, case: str, patient: str
) -> CaseVoxels:
    """The voxels of the region, sorted into groups of one outcome whose log-odds agree to a hundredth.

    Args:
        probability_zyx: float (z, y, x), 0..1.
        reference_zyx, region_zyx: bool, the same shape; the region is not empty.
        case, patient: whose.
    """
    p = np.clip(probability_zyx[region_zyx].astype(np.float64), 0, 1)  # averages may leave 0..1 by a rounding
    happened = reference_zyx[region_zyx].astype(bool)
    # Exactly 0 is a place that was not looked at, and stays what it is at every temperature: a group of its own.
    step = np.where(p > 0, np.rint(log_odds(p) / _STEP).astype(np.int64), np.iinfo(np.int32).min)
    _, group, voxels = np.unique(2 * step + happened, return_inverse=True, return_counts=True)
    mean = np.bincount(group, weights=p) / voxels
    outcome = np.zeros(len(voxels), dtype=bool)
    outcome[group] = happened
    return CaseVoxels(case, patient, np.clip(mean, 0, 1), outcome, voxels.astype(np.int64))
