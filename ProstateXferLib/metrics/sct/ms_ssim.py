# SPDX-License-Identifier: Apache-2.0
"""Multi-scale structural similarity of a synthetic CT."""

import math

import numpy as np

from ProstateXferLib.metrics.masks import Mask
from ProstateXferLib.metrics.sct.hu_volumes import SYNTHRAD2023_RANGE, HuRange, Where, hu_volumes
from ProstateXferLib.metrics.sct.ssim import shifted
from ProstateXferLib.metrics.sct.window_statistics import SIDE, WindowStatistics, without_rim

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""From the finest level to the coarsest (Wang et al., Asilomar Conf 2003, section 4)."""
_LEAST_SIDE = (SIDE - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""97: halved four times, rounding up, it is still as wide as a window."""


def ms_ssim(reference: Mask, prediction: Mask, mask: Where = None, hu_range: HuRange = SYNTHRAD2023_RANGE) -> float:
    """MS-SSIM in 3-D as SynthRAD2025 and DGCF compute it, 0 to 1; it is not the textbook's (see below).

    Volumes are prepared as for `ssim`, and sides shorter than 97 voxels are padded to 97 by repeating the outermost
    voxels, mask included, half before and half after. On each of five levels a map of
    (structure x contrast x luminance)^weight is averaged over the mask without the outermost three voxels; negative
    factors count as 0; the result is the product of the five means. Between levels voxels are averaged 2 x 2 x 2
    with zeros before the first, and every second is kept; of the mask every second voxel is taken as it is.

    Two things differ from Wang's definition: luminance counts on every level, not on the coarsest alone, and the mean
    is taken after the exponent. No package computes this number; others differ in the third digit. NaN where a level
    has no voxel of the mask left: for an empty mask, for one within three voxels of the border, and for small masks
    that the sampling misses.
    """
    volumes = hu_volumes(reference, prediction, mask)
    low, high = volumes.range_hu(hu_range)
    if not low < high:
        return math.nan
    one, two = (_padded(values) for values in shifted(volumes, low, high))
    inside = _padded(volumes.inside)
    means = []
    for level, weight in enumerate(WEIGHTS):
        if level:
            one, two, inside = _halved(one), _halved(two), inside[::2, ::2, ::2]
        counted = without_rim(inside)
        if not counted.any():
            return math.nan
        similar = without_rim(_similarity(one, two, high - low))[counted]
        means.append(float((similar**weight).mean()))
    return min(max(math.prod(means), 0.0), 1.0)


def _similarity(one: np.ndarray, two: np.ndarray, width: float) -> np.ndarray:
    """Luminance x contrast x structure of every voxel's cube, 0 where the structure is opposed.

    With Wang's third constant half the second, contrast x structure is one fraction, which spares two square roots.
    """
    found = WindowStatistics.of(one, two)
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2
    luminance = (2 * found.mean_one * found.mean_two + c1) / (found.mean_one**2 + found.mean_two**2 + c1)
    contrast_structure = (2 * found.covariance + c2) / (found.variance_one + found.variance_two + c2)
    return luminance * np.maximum(contrast_structure, 0)


def _padded(volume: np.ndarray) -> np.ndarray:
    missing = [max(0, _LEAST_SIDE - side) for side in volume.shape]
    return np.pad(volume, [(lack // 2, lack - lack // 2) for lack in missing], mode="edge")


def _halved(volume: np.ndarray) -> np.ndarray:
    """Along each axis the mean of voxels 2k - 1 and 2k, where voxel -1 is 0."""
    for axis in range(3):
        volume = np.moveaxis(volume, axis, 0)
        halves = volume[::2].copy()
        halves[1:] += volume[1:-1:2]
        volume = np.moveaxis(halves, 0, axis) / 2
    return volume
