# SPDX-License-Identifier: Apache-2.0
"""SAP's augmentation (papers.md 003): mirroring, quarter turns, small changes of intensity."""

from ProstateXferLib.training.augmentation.steps import Step, flips, image_only, monai_image, monai_pair


def sap_steps(patch_size: tuple[int, ...]) -> list[Step]:
    """Flips p 0.5 along every axis, quarter turns in the axial plane p 0.2, scale and shift of intensity by 0.1 p 0.1.

    SAP's arrays are (x, y, z) and MONAI turns the first two axes; ours are (z, y, x), so the last two are turned. They
    are left out where rows and columns differ in number.
    """
    from monai.transforms import RandRotate90d, RandScaleIntensity, RandShiftIntensity

    plane = (len(patch_size) - 2, len(patch_size) - 1)
    turns = []
    if patch_size[-1] == patch_size[-2]:
        turn = RandRotate90d(("image", "labels"), prob=1.0, max_k=3, spatial_axes=plane)
        turns = [Step("quarter turns", 0.2, monai_pair(turn))]
    return [
        *flips(len(patch_size)),
        *turns,
        Step("intensity scale", 0.1, image_only(monai_image(RandScaleIntensity(0.1, prob=1.0)))),
        Step("intensity shift", 0.1, image_only(monai_image(RandShiftIntensity(0.1, prob=1.0)))),
    ]
