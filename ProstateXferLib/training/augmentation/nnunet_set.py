# SPDX-License-Identifier: Apache-2.0
"""nnU-Net v2's default augmentation (batchgeneratorsv2; mr-dinov3-and-nnunet.md 4.5)."""

from ProstateXferLib.training.augmentation.steps import (
    Step,
    each_channel,
    flips,
    image_only,
    in_slices,
    monai_image,
)
from ProstateXferLib.training.augmentation.turn_and_scale import TurnAndScale

SMALLEST_SCALE = 0.85
"""By which nnU-Net divides to get the size of the patch that is cut, although it scales by 0.7 to 1.4."""


def nnunet_steps(patch_size: tuple[int, ...]) -> list[Step]:
    """The steps in nnU-Net's order.

    Differences: labels are read by nearest neighbour (nnU-Net resamples each label's indicator), gamma is uniform over
    0.7 to 1.5 (nnU-Net gives either side of 1 half of the draws). The "variance" of the noise is used as the standard
    deviation, as nnU-Net's code does.
    """
    from monai.transforms import (
        RandAdjustContrast,
        RandGaussianNoise,
        RandGaussianSmooth,
        RandScaleIntensity,
        RandScaleIntensityFixedMean,
    )

    spatial = TurnAndScale(patch_size)
    blur = RandGaussianSmooth((0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=1.0)
    contrast = RandScaleIntensityFixedMean(prob=1.0, factors=0.25, fixed_mean=True, preserve_range=True)
    return [
        Step("rotation and scaling", 1.0, spatial),
        Step("noise", 0.1, image_only(monai_image(RandGaussianNoise(prob=1.0, std=0.1, sample_std=True)))),
        Step("blur", 0.2, each_channel(monai_image(blur), 0.5)),
        Step("brightness", 0.15, each_channel(monai_image(RandScaleIntensity(0.25, prob=1.0)))),
        Step("contrast", 0.15, each_channel(monai_image(contrast))),
        low_resolution(0.25, (0.5, 1.0), flat=spatial.in_slices, spatial_dims=len(patch_size)),
        *(
            Step(name, share, each_channel(monai_image(gamma)))
            for name, share, gamma in (
                ("gamma of the negative", 0.1, RandAdjustContrast(1.0, (0.7, 1.5), True, True)),
                ("gamma", 0.3, RandAdjustContrast(1.0, (0.7, 1.5), False, True)),
            )
        ),
        *flips(len(patch_size)),
    ]


def low_resolution(probability: float, zoom: tuple[float, float], *, flat: bool, spatial_dims: int) -> Step:
    """Sampled down by nearest neighbour and up again linearly; in flat patches within the slices alone."""
    from monai.transforms import RandSimulateLowResolution

    upsample = "trilinear" if spatial_dims == 3 and not flat else "bilinear"
    coarse = monai_image(
        RandSimulateLowResolution(prob=1.0, downsample_mode="nearest-exact", upsample_mode=upsample, zoom_range=zoom)
    )
    return Step("low resolution", probability, each_channel(in_slices(coarse) if flat else coarse, 0.5))
