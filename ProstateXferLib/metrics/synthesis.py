# SPDX-License-Identifier: Apache-2.0
"""How far a synthetic CT's HU are from the true CT's."""

import math

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.metrics.masks import Mask, check_same_grid, foreground


def mae_hu(reference: Mask, prediction: Mask, mask: Mask | None = None) -> float:
    """Mean absolute error within the mask, HU, without clipping (SynthRAD's MAE); NaN when the mask is empty."""
    errors = errors_hu(reference, prediction, mask)
    return float(np.abs(errors).mean()) if errors.size else math.nan


def me_hu(reference: Mask, prediction: Mask, mask: Mask | None = None) -> float:
    """Mean of prediction minus reference within the mask, HU: above zero = too dense; NaN when the mask is empty."""
    errors = errors_hu(reference, prediction, mask)
    return float(errors.mean()) if errors.size else math.nan


def errors_hu(reference: Mask, prediction: Mask, mask: Mask | None = None) -> np.ndarray:
    """(N,) float64: prediction minus reference at the voxels where the mask is not zero, everywhere without one.

    CT volumes and mask are three images on one grid or three arrays (z, y, x) of one shape.
    """
    check_same_grid(reference, prediction, ("reference CT", "synthetic CT"))
    if mask is not None:
        check_same_grid(reference, mask, ("reference CT", "mask"))
    inside = ... if mask is None else foreground(mask)
    # In float64: differences of int16 images overflow where metal meets air.
    return (_values(prediction)[inside].astype(np.float64) - _values(reference)[inside]).ravel()


def _values(image: Mask) -> np.ndarray:
    """Voxels of an image or array; the caller keeps the image alive, which a view of it needs."""
    return sitk.GetArrayViewFromImage(image) if isinstance(image, sitk.Image) else np.asarray(image)
