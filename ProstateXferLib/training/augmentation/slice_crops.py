# SPDX-License-Identifier: Apache-2.0
"""Random crops of slices: one warp for image and label, then changes of intensity, on small torch tensors.

Ranges follow nnU-Net's default 2-D set (rotation, scaling 0.7-1.4, noise, blur, brightness, contrast, low resolution,
gamma) with a gentle elastic warp and a coil-like bias field added, because few training cases stand for many scanners.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH


@dataclass(frozen=True)
class CropOptions:
    """Geometry of training crops.

    Attributes:
        size: rows and columns of the crop in network pixels.
        rotation_deg, scale, shift: half-range of rotation, (low, high) of scaling, half-range of the centre's shift in
            pixels.
        elastic_px: largest displacement of the smooth warp.
        flip: whether left and right may be swapped (the pelvis is near symmetric; the labels here are too).
    """

    size: int = 192
    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.7, 1.4)
    shift: float = 24.0
    elastic_px: float = 5.0
    flip: bool = True

    def __post_init__(self) -> None:
        if self.size < PATCH or self.size % PATCH:
            raise ProstateXferError(f"The crops' size is {self.size}: give a multiple of {PATCH} pixels.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ProstateXferError(f"The crops' scale is {list(self.scale)}: give two increasing numbers above zero.")


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def random_crop_grid(
    shape_yx: tuple[int, int], centre_yx: tuple[float, float], options: CropOptions, generator: torch.Generator
) -> Tensor:
    """Sampling positions (size, size, 2) in grid_sample's (x, y) convention around a randomly moved centre."""
    size, g = options.size, generator
    angle = math.radians(uniform(-options.rotation_deg, options.rotation_deg, g))
    zoom = math.exp(uniform(math.log(options.scale[0]), math.log(options.scale[1]), g))
    centre = [c + uniform(-options.shift, options.shift, g) for c in centre_yx]
    steps = (torch.arange(size) - (size - 1) / 2) / zoom
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    if options.flip and uniform(0, 1, g) < 0.5:
        x = -x
    turned = torch.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], dim=-1)
    if options.elastic_px:
        coarse = torch.randn(1, 2, 5, 5, generator=g)
        smooth = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
        turned = turned + smooth * uniform(0, options.elastic_px / 2, g)
    place = turned + torch.tensor([centre[1], centre[0]])
    extent = torch.tensor([shape_yx[1], shape_yx[0]], dtype=torch.float32)
    return (2 * place + 1) / extent - 1


def sample(slice_: Tensor, grid: Tensor, *, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """Read (C, H, W) at a crop grid -> (C, size, size)."""
    return F.grid_sample(slice_[None].float(), grid[None], mode=mode, padding_mode=padding, align_corners=False)[0]


def random_intensity(image: Tensor, generator: torch.Generator) -> Tensor:
    """Change a z-scored MR crop (1, H, W) the way scanners, coils and readers' windows do."""
    g, size = generator, image.shape[-2:]

    def happens(p: float) -> bool:
        return uniform(0, 1, g) < p

    if happens(0.3):  # coil sensitivity: a smooth field, stronger near one side (endorectal coils are extreme)
        field = F.interpolate(torch.randn(1, 1, 3, 3, generator=g), size=size, mode="bicubic", align_corners=True)[0]
        low = image.amin()
        image = (image - low) * torch.exp(field * uniform(0.1, 0.5, g)) + low
    if happens(0.4):  # gamma on the range of the crop, mean and spread kept
        low, high = image.amin(), image.amax()
        span = (high - low).clamp_min(1e-6)
        bent = ((image - low) / span) ** uniform(0.7, 1.5, g)
        image = (bent - bent.mean()) / bent.std().clamp_min(1e-6) * image.std() + image.mean()
    if happens(0.4):
        image = (image - image.mean()) * uniform(0.7, 1.3, g) + image.mean() + uniform(-0.3, 0.3, g)
    if happens(0.25):
        factor = uniform(0.4, 1.0, g)
        small = F.interpolate(image[None], scale_factor=factor, mode="area")
        image = F.interpolate(small, size=size, mode="bicubic", align_corners=False)[0]
    if happens(0.2):
        image = blur(image, uniform(0.4, 1.2, g))
    if happens(0.3):
        image = image + torch.randn(image.shape, generator=g) * uniform(0, 0.25, g)
    return image


def blur(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (C, H, W)."""
    radius = max(1, math.ceil(3 * sigma_px))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(image[:, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]
