# SPDX-License-Identifier: Apache-2.0
"""Means, variances and covariance of two volumes or slices in a window around every voxel, from which SSIM is made."""

from dataclasses import dataclass

import numpy as np

SIDE = 7
"""Voxels along an edge of the cube, SynthRAD's window."""
RIM = SIDE // 2
"""Voxels at each side of a volume whose cube is not complete; no metric looks at them."""


@dataclass(frozen=True)
class WindowStatistics:
    """Arrays of the volumes' shape; variances and covariance are the sample's, and variances never below zero."""

    mean_one: np.ndarray
    mean_two: np.ndarray
    variance_one: np.ndarray
    variance_two: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, one: np.ndarray, two: np.ndarray) -> "WindowStatistics":
        """The statistics of two float64 arrays (z, y, x) or (y, x) of one shape."""
        from scipy.ndimage import uniform_filter

        sample = SIDE**one.ndim / (SIDE**one.ndim - 1)
        means = [uniform_filter(values, SIDE) for values in (one, two)]
        products = [uniform_filter(values, SIDE) for values in (one * one, two * two, one * two)]
        spread = [
            sample * (product - first * second)
            for product, first, second in zip(products, (means[0], means[1], means[0]), (*means, means[1]), strict=True)
        ]
        # A constant cube has a variance of -1e-10 by rounding.
        return cls(*means, np.maximum(spread[0], 0), np.maximum(spread[1], 0), spread[2])


def without_rim(array: np.ndarray) -> np.ndarray:
    """The voxels whose cube is complete; empty where the array is thinner than the window."""
    return array[(slice(RIM, -RIM),) * array.ndim]
