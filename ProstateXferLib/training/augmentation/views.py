# SPDX-License-Identifier: Apache-2.0
"""The crops of one slice that self-supervised training compares: two large ones, several small ones.

Source: DINOv3 with the intensities of CT pre-training (reference notes 3.2, 3.3).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.training.augmentation.slice_crops import uniform
from ProstateXferLib.training.augmentation.slice_intensity import distorted

GLOBAL_CROPS = 2
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class CropSizes:
    """Sides of the crops in pixels, multiples of 16.

    Attributes:
        large, small: of global and local crops.
        gram: of the undistorted global crops that a Gram teacher sees; 0 for none.
        share: how often this set of sizes is drawn, relative to the others; a batch has one.
    """

    large: int = 256
    small: int = 112
    gram: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        sides = (self.large, self.small, self.gram)
        if any(side % PATCH or side < 0 for side in sides) or not self.large or not self.small:
            raise ProstateXferError(f"The crops' sides {sides} must be multiples of {PATCH} pixels.")
        if not self.share > 0:
            raise ProstateXferError("A set of crop sizes needs a share above zero.")


@dataclass(frozen=True)
class ViewOptions:
    """What crops show.

    Attributes:
        small_count: local crops of a slice.
        large_scale, small_scale: (least, greatest) share of the slice's area.
        flip: probability that left and right are swapped.
        distort: whether intensities are changed at random (slice_intensity.py).
    """

    small_count: int = 8
    large_scale: tuple[float, float] = (0.32, 1.0)
    small_scale: tuple[float, float] = (0.05, 0.32)
    flip: float = 0.5
    distort: bool = True

    def __post_init__(self) -> None:
        for low, high in (self.large_scale, self.small_scale):
            if not 0 < low <= high <= 1:
                raise ProstateXferError(f"A crop's scale [{low}, {high}] must be two increasing shares of the area.")
        if self.small_count < 1 or not 0 <= self.flip <= 1:
            raise ProstateXferError("Views need at least one small crop, and a flip probability between 0 and 1.")


def slice_views(
    pixels: Tensor, sizes: CropSizes, options: ViewOptions, generator: torch.Generator
) -> dict[str, Tensor]:
    """Crops of a standardised slice (H, W).

    Returns:
        "large" (2, 1, L, L), "small" (n, 1, S, S), and where asked for "gram" (2, 1, G, G): the large crops' places in
        the undistorted slice. Intensities are changed once for all crops.
    """
    changed = distorted(pixels, generator) if options.distort else pixels
    large, gram = [], []
    for _ in range(GLOBAL_CROPS):
        box = random_box(pixels.shape, options.large_scale, generator)
        flipped = uniform(0, 1, generator) < options.flip
        large.append(_crop(changed, box, sizes.large, flipped))
        if sizes.gram:
            gram.append(_crop(pixels, box, sizes.gram, flipped))
    small = []
    for _ in range(options.small_count):
        box = random_box(pixels.shape, options.small_scale, generator)
        small.append(_crop(changed, box, sizes.small, uniform(0, 1, generator) < options.flip))
    views = {"large": torch.stack(large), "small": torch.stack(small)}
    return views | ({"gram": torch.stack(gram)} if gram else {})


def random_box(
    shape_yx: tuple[int, int], scale: tuple[float, float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """First row, first column, rows and columns of a random part of a slice.

    Its area is a uniform share of the slice's, its aspect log-uniform between 3:4 and 4:3; after ten that do not fit,
    the largest centred part of an allowed aspect (torchvision's rule).
    """
    height, width = shape_yx
    for _ in range(_TRIES):
        area = height * width * uniform(*scale, generator)
        aspect = math.exp(uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), generator))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(torch.randint(height - rows + 1, (), generator=generator))
            return top, int(torch.randint(width - columns + 1, (), generator=generator)), rows, columns
    aspect = min(max(width / height, _RATIO[0]), _RATIO[1])
    columns, rows = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _crop(pixels: Tensor, box: tuple[int, int, int, int], side: int, flipped: bool) -> Tensor:
    """A part of the slice as (1, side, side), bicubic with antialiasing."""
    top, left, rows, columns = box
    part = pixels[None, None, top : top + rows, left : left + columns]
    view = F.interpolate(part, size=(side, side), mode="bicubic", antialias=True, align_corners=False)[0]
    return view.flip(-1) if flipped else view
