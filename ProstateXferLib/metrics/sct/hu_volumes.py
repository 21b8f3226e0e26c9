# SPDX-License-Identifier: Apache-2.0
"""A CT, a synthetic CT and where they are compared, as every metric of them takes them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.metrics.masks import Mask, check_same_grid, foreground

HuRange = tuple[float, float] | Literal["reference"]
Where = Mask | Literal["body"] | None

SYNTHRAD2023_RANGE = (-1024.0, 3000.0)
"""Of SynthRAD2023's evaluation and of the metrics that SynthRAD2025 published."""
SYNTHRAD2025_RANGE = (-1024.0, 3071.0)
"""Of the container that made SynthRAD2025's ranking; the same pair scores about 0.15 dB more with it."""
DGCF_RANGE = (-1024.0, 2000.0)
"""Of DGCF's evaluation (arXiv 2511.12098, public code)."""


@dataclass(frozen=True)
class HuVolumes:
    """Reference and prediction as float64 HU (z, y, x), and True where they are compared."""

    reference: np.ndarray
    prediction: np.ndarray
    inside: np.ndarray

    def clipped(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Both clipped to a range of HU."""
        return np.clip(self.reference, low, high), np.clip(self.prediction, low, high)

    def range_hu(self, hu_range: HuRange) -> tuple[float, float]:
        """The range in numbers; "reference" is from the least to the greatest HU of the reference inside the mask."""
        if isinstance(hu_range, str):
            if hu_range != "reference":
                raise ProstateXferError(f"The HU range '{hu_range}' is unknown; give two numbers or 'reference'.")
            values = self.reference[self.inside]
            return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)
        low, high = (float(end) for end in hu_range)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ProstateXferError(
                f"The HU range {hu_range} is empty; give a lower and an upper end as (-1024, 3000)."
            )
        return low, high


def hu_volumes(reference: Mask, prediction: Mask, mask: Where) -> HuVolumes:
    """Three images on one grid or three arrays (z, y, x) of one shape, in HU; without a mask every voxel is compared.

    The mask counts wherever it is not zero; "body" is the body in the reference CT, as `images.body` finds it.
    """
    check_same_grid(reference, prediction, ("reference CT", "synthetic CT"))
    # In this order: the number of dimensions of an image would be found by walking through its voxels.
    if not isinstance(reference, sitk.Image) and np.ndim(reference) != 3:
        raise ProstateXferError(f"A CT is a volume (z, y, x); this array has shape {np.shape(reference)}.")
    volumes = [_finite(volume, what) for volume, what in ((reference, "reference CT"), (prediction, "synthetic CT"))]
    return HuVolumes(*volumes, inside_of(reference, mask))


def inside_of(reference: Mask, mask: Where) -> np.ndarray:
    """True (z, y, x) where the mask counts."""
    if isinstance(mask, str):
        if mask != "body":
            raise ProstateXferError(f"The mask '{mask}' is unknown; give a mask, 'body', or None for every voxel.")
        ct = reference if isinstance(reference, sitk.Image) else sitk.GetImageFromArray(np.asarray(reference))
        found = body_mask(ct)
        return sitk.GetArrayFromImage(found) > 0
    if mask is None:
        shape = reference.GetSize()[::-1] if isinstance(reference, sitk.Image) else np.shape(reference)
        return np.ones(shape, dtype=bool)
    check_same_grid(reference, mask, ("reference CT", "mask"))
    return foreground(mask)


def _finite(volume: Mask, what: str) -> np.ndarray:
    """float64 HU; in int16 differences overflow where metal meets air."""
    array = sitk.GetArrayFromImage(volume) if isinstance(volume, sitk.Image) else np.asarray(volume)
    if not np.issubdtype(array.dtype, np.number):
        raise ProstateXferError(f"The {what} is an array of {array.dtype}; numbers in HU are needed.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ProstateXferError(f"The {what} holds values that are not finite; replace them by air (-1024 HU) first.")
    return array
