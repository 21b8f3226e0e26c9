# SPDX-License-Identifier: Apache-2.0
"""Intensities of single slices in self-supervised training: one scale for all scanners, then random changes.

Source: the CT pre-training of MedDINOv3's authors (FlexiCT), reference notes 3.3: every slice on its own, CT between
fixed HU, anything else between percentiles; MONAI's random transforms with the probabilities and ranges below.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.training.augmentation.slice_crops import uniform

PERCENTILES = (0.5, 99.5)
FLAT = 1e-6
"""A slice whose standard deviation is smaller is only centred."""


def standardised(pixels: Tensor, *, clamp_percentiles: bool) -> Tensor:
    """Pixels (H, W) as float32 with mean 0 and standard deviation 1 (ddof 1).

    Args:
        pixels: values in any linear unit.
        clamp_percentiles: to the 0.5 and 99.5 percentiles first; not for CT, which comes clamped to HU.
    """
    pixels = pixels.float()
    if clamp_percentiles:
        low, high = np.percentile(pixels.numpy(), PERCENTILES)
        pixels = pixels.clamp(float(low), float(high))
    centred = pixels - pixels.mean()
    deviation = float(centred.std())
    return centred / deviation if deviation >= FLAT else centred


def distorted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """A standardised slice (H, W) with random noise, blur, scale, resolution and contrast, in this order."""
    if uniform(0, 1, generator) < 0.1:
        deviation = uniform(0, 0.1, generator)  # MONAI draws the noise's strength, too
        pixels = pixels + deviation * torch.randn(pixels.shape, generator=generator)
    if uniform(0, 1, generator) < 0.2:
        pixels = smoothed(pixels, (uniform(0.5, 1, generator), uniform(0.5, 1, generator)))
    if uniform(0, 1, generator) < 0.15:
        pixels = pixels * (1 + uniform(-0.25, 0.25, generator))
    if uniform(0, 1, generator) < 0.25:
        pixels = coarsened(pixels, uniform(0.5, 1, generator))
    if uniform(0, 1, generator) < 0.1:
        pixels = with_gamma(pixels, uniform(0.7, 1.5, generator))
    return pixels


def smoothed(pixels: Tensor, sigma_yx: tuple[float, float]) -> Tensor:
    """Gaussian blur of (H, W), standard deviations in pixels; the border is continued outwards."""
    smooth = pixels[None, None]
    for axis, sigma in enumerate(sigma_yx):
        reach = math.ceil(4 * sigma)
        edges = (torch.arange(-reach, reach + 2) - 0.5) / (sigma * math.sqrt(2))
        kernel = torch.erf(edges).diff()  # the Gaussian's share of each pixel
        kernel = (kernel / kernel.sum()).view(1, 1, *((-1, 1) if axis == 0 else (1, -1)))
        padding = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
        smooth = F.conv2d(F.pad(smooth, padding, mode="replicate"), kernel)
    return smooth[0, 0]


def coarsened(pixels: Tensor, zoom: float) -> Tensor:
    """(H, W) as if taken with pixels 1 / zoom times as wide: nearest pixels, then linear interpolation."""
    size = [max(1, round(side * zoom)) for side in pixels.shape]
    small = F.interpolate(pixels[None, None], size=size, mode="nearest")
    return F.interpolate(small, size=pixels.shape, mode="bilinear", align_corners=False)[0, 0]


def with_gamma(pixels: Tensor, gamma: float) -> Tensor:
    """(H, W) with its range, mapped to 0..1, raised to the power gamma."""
    low, span = pixels.min(), pixels.max() - pixels.min()
    return ((pixels - low) / (span + 1e-7)) ** gamma * span + low
