# SPDX-License-Identifier: Apache-2.0
"""Changes of DA5 that MONAI does not have: blanked boxes, gradients of brightness, gamma in a place, exchanged axes.

Each takes an image (1, ...) and a generator and returns an image; facts from nnU-Net's trainer DA5 (public code).
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def blank_boxes(image: Tensor, random: np.random.RandomState) -> Tensor:
    """One to five boxes, each side a tenth to a third of the patch's, set to the image's mean."""
    image, mean = image.clone(), image.mean()
    for _ in range(random.randint(1, 6)):
        where = []
        for side in image.shape[1:]:
            length = random.randint(max(1, side // 10), max(1, side // 3) + 1)
            first = random.randint(0, side - length + 1)
            where.append(slice(first, first + length))
        image[:, *where] = mean
    return image


def brightness_gradient(image: Tensor, random: np.random.RandomState) -> Tensor:
    """A wide Gaussian is added whose largest change within the image is 1 to 5 (in units of a z-score), up or down."""
    bump = _bump(image.shape[1:], random)
    strength = random.uniform(1, 5) * (1 if random.uniform() < 0.5 else -1)
    return image + bump * strength


def local_gamma(image: Tensor, random: np.random.RandomState) -> Tensor:
    """Gamma of 0.01 to 0.8 or 1.5 to 4 under a wide Gaussian, fading to none away from it; the range is kept."""
    weight = _bump(image.shape[1:], random)
    gamma = random.uniform(0.01, 0.8) if random.uniform() < 0.5 else random.uniform(1.5, 4)
    low, span = image.min(), (image.max() - image.min()).clamp_min(1e-7)
    bent = ((image - low) / span) ** gamma * span + low
    return image + weight * (bent - image)


def exchange_axes(axes: Sequence[int]):
    """A change of image and labels that permutes these spatial axes, which are of equal length."""

    def apply(image: Tensor, labels: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        order = list(range(labels.ndim))
        for axis, other in zip(axes, random.permutation(np.array(axes)).tolist(), strict=True):
            order[axis] = other
        return image.permute(0, *(1 + axis for axis in order)).contiguous(), labels.permute(order).contiguous()

    return apply


def quarter_turns(axes: Sequence[int]):
    """A change that turns image and labels by 0 to 3 quarters in the plane of two of these axes of equal length."""
    planes = list(itertools.combinations(axes, 2))

    def apply(image: Tensor, labels: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        a, b = planes[random.randint(len(planes))]
        turns = random.randint(4)
        return torch.rot90(image, turns, (1 + a, 1 + b)), torch.rot90(labels, turns, (a, b))

    return apply


def _bump(size: Sequence[int], random: np.random.RandomState) -> Tensor:
    """A Gaussian of highest value 1 within the image; its centre may lie outside.

    Standard deviation along each axis a sixth of the side to all of it (log-uniform), centre at -0.5 to 1.5 of it.
    """
    bump = torch.ones(())
    for axis, side in enumerate(size):
        deviation = np.exp(random.uniform(np.log(max(side // 6, 1)), np.log(max(side, 1))))
        centre = random.uniform(-0.5, 1.5) * side
        distance = (torch.arange(side) - centre) / deviation
        # The nearest voxel is taken as the peak, so that a centre far outside does not fade into nothing.
        profile = torch.exp(-0.5 * (distance**2 - (distance**2).min()))
        bump = bump * profile.view(-1, *[1] * (len(size) - axis - 1))
    return bump[None].float()
