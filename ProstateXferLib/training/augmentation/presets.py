# SPDX-License-Identifier: Apache-2.0
"""Augmentation by name: "none", "nnunet", "da5", "da5_ord0", "sap"."""

import functools
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.augmentation import da5_set, nnunet_set
from ProstateXferLib.training.augmentation.sap_set import sap_steps
from ProstateXferLib.training.augmentation.steps import Step
from ProstateXferLib.training.augmentation.turn_and_scale import TurnAndScale, middle

PRESETS = ("none", "nnunet", "da5", "da5_ord0", "sap")


@dataclass(frozen=True)
class Augmentation:
    """A preset for patches of one size: a function of (sample, seed), the same in every process; pickles small.

    Attributes:
        name: one of `PRESETS`.
        patch_size: voxels along (z, y, x), or rows and columns, of what comes out.
    """

    name: str
    patch_size: tuple[int, ...]

    @property
    def source_size(self) -> tuple[int, ...]:
        """Voxels of the patch to cut from the case: larger where the preset rotates and scales."""
        if self.name == "nnunet":
            return TurnAndScale(self.patch_size).source_size(nnunet_set.SMALLEST_SCALE)
        if self.name in ("da5", "da5_ord0"):
            return da5_set.da5_spatial(self.patch_size, nearest=False).source_size(da5_set.SMALLEST_SCALE)
        return self.patch_size

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done in which order; imports MONAI."""
        return _steps(self.name, self.patch_size)

    def __call__(self, sample: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """The sample with "image" (C, *patch_size) and "labels" (*patch_size) changed; the rest stays.

        Labels beyond the image (-1) end as background, as in nnU-Net: padding is empty, and so it is in inference.

        Args:
            sample: "image" (C, ...) float32 and "labels" (...) int64 of `source_size`; other sizes are cut or padded.
            seed: decides every draw; 0 to 2**32 - 1.
        """
        random = np.random.RandomState(seed)
        image, labels = sample["image"], sample["labels"]
        if self.source_size == self.patch_size:
            image, labels = middle(image, self.patch_size), middle(labels, self.patch_size)
        for step in self.steps:
            image, labels = step(image, labels, random)
        return sample | {"image": image.float().contiguous(), "labels": labels.clamp_min(0).contiguous()}


def preset(name: str, *, spatial_dims: int, patch_size: tuple[int, ...]) -> Augmentation:
    """The augmentation of that name.

    Args:
        name: "none"; "nnunet" (nnU-Net v2's default set), "da5" (its aggressive one), "da5_ord0" (the same without
            interpolation), "sap" (mirroring, quarter turns, small changes of intensity).
        spatial_dims: 2 or 3.
        patch_size: (rows, columns) or (z, y, x) of what comes out.

    Raises:
        ProstateXferError: no such preset, or a patch size of other dimensions.
    """
    if name not in PRESETS:
        raise ProstateXferError(f"The augmentation '{name}' is none of {', '.join(PRESETS)}.")
    if spatial_dims not in (2, 3) or len(patch_size) != spatial_dims or min(patch_size) < 1:
        raise ProstateXferError(f"A patch of {tuple(patch_size)} voxels is not {spatial_dims}-D: correct its size.")
    return Augmentation(name, tuple(patch_size))


@functools.lru_cache(maxsize=8)
def _steps(name: str, patch_size: tuple[int, ...]) -> tuple[Step, ...]:
    if name == "nnunet":
        return tuple(nnunet_set.nnunet_steps(patch_size))
    if name in ("da5", "da5_ord0"):
        return tuple(da5_set.da5_steps(patch_size, nearest=name == "da5_ord0"))
    return tuple(sap_steps(patch_size)) if name == "sap" else ()
