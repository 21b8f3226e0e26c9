# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's aggressive augmentation DA5 (trainer nnUNetTrainerDA5, public code; used at PANTHER, papers.md 004)."""

import numpy as np
from torch import Tensor

from ProstateXferLib.training.augmentation.local_changes import (
    blank_boxes,
    brightness_gradient,
    exchange_axes,
    local_gamma,
    quarter_turns,
)
from ProstateXferLib.training.augmentation.nnunet_set import low_resolution
from ProstateXferLib.training.augmentation.steps import (
    Step,
    each_channel,
    flips,
    image_only,
    monai_image,
    one_of,
)
from ProstateXferLib.training.augmentation.turn_and_scale import TurnAndScale

SMALLEST_SCALE = 0.7
"""By which DA5 divides to get the size of the patch that is cut."""
_GAMMA = (0.7, 1.5)


def da5_spatial(patch_size: tuple[int, ...], *, nearest: bool) -> TurnAndScale:
    """DA5's rotation (twice as often as nnU-Net's default, each axis every other time) and scaling per axis."""
    return TurnAndScale(
        patch_size,
        rotation=0.4,
        scaling=0.2,
        scale=(0.7, 1.43),
        one_scale=False,
        rotation_per_axis=0.5,
        nearest=nearest,
    )


def da5_steps(patch_size: tuple[int, ...], *, nearest: bool) -> list[Step]:
    """The steps in DA5's order; `nearest` is its variant "ord0", which interpolates neither image nor labels.

    Left out or other than there: elastic deformation (switched off there, too); cubic interpolation of images (linear
    here: MONAI and torch have no cubic one in 3-D); median filters of 5 to 8 voxels (minutes a patch in 3-D; radius 1
    here, the smallest of theirs); the filter kernel of the sharpening (MONAI's unsharp mask here); low resolution is
    sampled up linearly, not cubically. Both gamma steps invert the image, as in the original.
    """
    from monai.transforms import MedianSmooth, RandAdjustContrast, RandGaussianNoise

    spatial = da5_spatial(patch_size, nearest=nearest)
    gamma = each_channel(monai_image(RandAdjustContrast(1.0, _GAMMA, True, True)))
    median = MedianSmooth(1)
    return [
        Step("rotation and scaling", 1.0, spatial),
        *_exchanges(patch_size),
        Step("median or blur", 1.0, one_of([
            Step("median", 0.2, each_channel(lambda image, random: median(image), 0.5)),
            Step("blur", 0.2, each_channel(_blur(), 0.5)),
        ])),
        Step("noise", 0.1, image_only(monai_image(RandGaussianNoise(prob=1.0, std=0.1, sample_std=True)))),
        Step("brightness", 0.1, each_channel(lambda image, random: image + float(random.normal(0, 0.5)), 0.5)),
        Step("contrast", 0.2, each_channel(_contrast, 0.5)),
        low_resolution(0.15, (0.25, 1.0), flat=spatial.in_slices, spatial_dims=len(patch_size)),
        Step("gamma of the negative", 0.1, gamma),
        Step("gamma of the negative again", 0.1, gamma),
        *flips(len(patch_size)),
        Step("blank boxes", 0.4, each_channel(blank_boxes, 0.5)),
        Step("brightness gradient", 0.3, each_channel(brightness_gradient, 0.5)),
        Step("local gamma", 0.3, each_channel(local_gamma, 0.5)),
        Step("sharpening", 0.2, each_channel(_sharpening(), 0.5)),
    ]  # fmt: skip


def _exchanges(patch_size: tuple[int, ...]) -> list[Step]:
    """Quarter turns and exchanges of the axes that have the commonest length, where at least two have it."""
    commonest = max(set(patch_size), key=lambda side: (patch_size.count(side), -patch_size.index(side)))
    axes = [axis for axis, side in enumerate(patch_size) if side == commonest]
    if len(axes) < 2:
        return []
    return [Step("quarter turns", 0.5, quarter_turns(axes)), Step("exchanged axes", 0.5, exchange_axes(axes))]


def _blur():
    from monai.transforms import RandGaussianSmooth

    return monai_image(RandGaussianSmooth((0.3, 1.5), (0.3, 1.5), (0.3, 1.5), prob=1.0))


def _sharpening():
    """Unsharp masking of strength 0.1 to 1 with a Gaussian of a voxel."""
    from monai.transforms import GaussianSmooth

    smooth = GaussianSmooth(1.0)
    return lambda image, random: image + random.uniform(0.1, 1.0) * (image - smooth(image).as_tensor())


def _contrast(image: Tensor, random: np.random.RandomState) -> Tensor:
    """Stretched about the mean by 0.5 to 2, each side of 1 half of the time; every other time cut to the old range."""
    factor = random.uniform(0.5, 1) if random.uniform() < 0.5 else random.uniform(1, 2)
    stretched = (image - image.mean()) * factor + image.mean()
    return stretched.clamp(image.min(), image.max()) if random.uniform() < 0.5 else stretched
