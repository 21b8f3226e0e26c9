# SPDX-License-Identifier: Apache-2.0
"""Cropping a study to its nonzero region, as nnU-Net does before everything else (specification 4.2)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Crop:
    """Where the cropped study lay.

    Attributes:
        box: one slice per axis of the whole study.
        shape_before: of the whole study.
        inside: bool, on the cropped grid: the nonzero region, its holes filled.
    """

    box: tuple[slice, slice, slice]
    shape_before: tuple[int, int, int]
    inside: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape after cropping."""
        return self.inside.shape

    def paste(self, volumes: np.ndarray, outside: float = 0.0) -> np.ndarray:
        """Cropped (K, ...) back in the whole study, `outside` around it; float32."""
        whole = np.full((len(volumes), *self.shape_before), outside, dtype=np.float32)
        whole[(slice(None), *self.box)] = volumes
        return whole


def crop_to_nonzero(channels: np.ndarray) -> tuple[np.ndarray, Crop]:
    """The smallest box around voxels that are not 0 in every channel; holes inside count as image.

    Args:
        channels: (C, z, y, x). A study of zeros alone is kept whole.

    Returns:
        A view into `channels`, not a copy (a mean in float32 depends on the memory's layout), and where it lay.
    """
    from scipy.ndimage import binary_fill_holes

    region = binary_fill_holes((channels != 0).any(axis=0))
    box = []
    for axis in range(3):
        found = np.flatnonzero(region.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, region.shape[axis]))
    place = tuple(box)
    return channels[(slice(None), *place)], Crop(place, channels.shape[1:], region[place])
