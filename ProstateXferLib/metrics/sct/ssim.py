# SPDX-License-Identifier: Apache-2.0
"""Structural similarity of a synthetic CT."""

import math

import numpy as np

from ProstateXferLib.metrics.masks import Mask, bounding_box
from ProstateXferLib.metrics.sct.hu_volumes import SYNTHRAD2023_RANGE, HuRange, HuVolumes, Where, hu_volumes
from ProstateXferLib.metrics.sct.window_statistics import RIM, WindowStatistics, without_rim


def ssim(reference: Mask, prediction: Mask, mask: Where = None, hu_range: HuRange = SYNTHRAD2023_RANGE) -> float:
    """SSIM (Wang et al., IEEE Trans Image Process 2004;13:600-612) in 3-D as SynthRAD2023 computes it, at most 1.

    Both volumes are clipped to the range, set to its lower end outside the mask and shifted so that this is 0 (on raw
    HU the same pair scores differently); cubes of 7³ voxels with equal weights, the sample's covariance,
    K = (0.01, 0.03), dynamic range = width of the range; the mean of the map over the mask, without the outermost
    three voxels of the volume, whose cubes are cut. NaN when nothing of the mask is left, and for volumes thinner
    than seven voxels. Without a mask the mean is over the whole map.
    """
    volumes = hu_volumes(reference, prediction, mask)
    low, high = volumes.range_hu(hu_range)
    if not low < high:
        return math.nan
    counted = np.zeros_like(volumes.inside)
    without_rim(counted)[...] = without_rim(volumes.inside)
    box = bounding_box(counted)
    if box is None:
        return math.nan
    # Cubes of the voxels that count reach three voxels beyond them and no further.
    around = tuple(slice(axis.start - RIM, axis.stop + RIM) for axis in box)
    one, two = shifted(
        HuVolumes(volumes.reference[around], volumes.prediction[around], volumes.inside[around]), low, high
    )
    found = WindowStatistics.of(one, two)
    c1, c2 = (0.01 * (high - low)) ** 2, (0.03 * (high - low)) ** 2
    luminance = (2 * found.mean_one * found.mean_two + c1) / (found.mean_one**2 + found.mean_two**2 + c1)
    structure = (2 * found.covariance + c2) / (found.variance_one + found.variance_two + c2)
    return float((luminance * structure)[counted[around]].mean())


def shifted(volumes: HuVolumes, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Both clipped to the range and shifted to begin at 0, which they also are outside the mask."""
    one, two = volumes.clipped(low, high)
    return np.where(volumes.inside, one - low, 0.0), np.where(volumes.inside, two - low, 0.0)
