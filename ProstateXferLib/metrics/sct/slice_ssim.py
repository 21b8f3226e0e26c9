# SPDX-License-Identifier: Apache-2.0
"""Structural similarity of one synthetic slice, by which DGCF selects its checkpoints."""

import numpy as np

from ProstateXferLib.metrics.sct.window_statistics import WindowStatistics, without_rim

WIDTH = 2.0
"""Dynamic range of network output, [-1, 1]."""


def slice_ssim(reference: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> float:
    """2-D SSIM of network output within a mask, at most 1 (DGCF, public code; reference notes dgcf.md, section 6.1).

    Both slices are clipped to [-1, 1] and set to -1 where the mask is not above zero; windows of 7 x 7 pixels with
    equal weights, the sample's covariance, K = (0.01, 0.03), dynamic range 2; the mean of the map over the mask without
    the slice's outermost three pixels. An empty mask gives 1, as in the reference.

    Args:
        reference: true slice (H, W) in [-1, 1].
        prediction: synthetic slice (H, W).
        mask: (H, W), counted where above zero; None counts every pixel.
    """
    inside = np.ones(reference.shape, bool) if mask is None else np.asarray(mask) > 0
    counted = without_rim(inside)
    if not counted.any():
        return 1.0
    one, two = (np.where(inside, np.clip(s.astype(np.float64), -1, 1) + 1, 0) for s in (reference, prediction))
    found = WindowStatistics.of(one, two)
    c1, c2 = (0.01 * WIDTH) ** 2, (0.03 * WIDTH) ** 2
    luminance = (2 * found.mean_one * found.mean_two + c1) / (found.mean_one**2 + found.mean_two**2 + c1)
    structure = (2 * found.covariance + c2) / (found.variance_one + found.variance_two + c2)
    return float(without_rim(luminance * structure)[counted].mean())
