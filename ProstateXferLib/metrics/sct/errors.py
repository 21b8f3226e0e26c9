# SPDX-License-Identifier: Apache-2.0
"""Mean errors of a synthetic CT in HU."""

import math

import numpy as np

from ProstateXferLib.metrics.masks import Mask
from ProstateXferLib.metrics.sct.hu_volumes import HuRange, HuVolumes, Where, hu_volumes
from ProstateXferLib.metrics.synthesis import errors_hu


def mae(reference: Mask, prediction: Mask, mask: Where = None, hu_range: HuRange | None = None) -> float:
    """Mean absolute error within the mask, HU; NaN when the mask is empty.

    SynthRAD does not clip (the default); with a range both volumes are clipped to it first.
    """
    errors = _errors(hu_volumes(reference, prediction, mask), hu_range)
    return float(np.abs(errors).mean()) if errors.size else math.nan


def me(reference: Mask, prediction: Mask, mask: Where = None, hu_range: HuRange | None = None) -> float:
    """Mean of prediction minus reference within the mask, HU: above zero = too dense; NaN when the mask is empty."""
    errors = _errors(hu_volumes(reference, prediction, mask), hu_range)
    return float(errors.mean()) if errors.size else math.nan


def _errors(volumes: HuVolumes, hu_range: HuRange | None) -> np.ndarray:
    """(n,) prediction minus reference inside."""
    pair = volumes.reference, volumes.prediction
    if hu_range is not None:
        pair = volumes.clipped(*volumes.range_hu(hu_range))
    return errors_hu(*pair, volumes.inside)
