# SPDX-License-Identifier: Apache-2.0
"""The surface of a mask as points of a lattice, by either of the two definitions in use."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ProstateXferLib.metrics.masks import bounding_box
from ProstateXferLib.metrics.surface_areas import surfel_areas_mm2


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """Points of a surface: where `occupied_zyx` (bool, a box of the lattice that begins at `start_zyx`) is True.

    `weights` (N,) belong to the points in the order of `occupied_zyx`; None means that all weigh the same.
    """

    occupied_zyx: np.ndarray
    start_zyx: tuple[int, int, int]
    weights: np.ndarray | None = None

    @cached_property
    def stop_zyx(self) -> tuple[int, int, int]:
        """One past the last lattice index of the box."""
        return tuple(first + n for first, n in zip(self.start_zyx, self.occupied_zyx.shape, strict=True))

    @cached_property
    def count(self) -> int:
        """Number of points."""
        return int(np.count_nonzero(self.occupied_zyx))

    def positions_mm(self, spacing_zyx: tuple[float, float, float], chosen: np.ndarray | None = None) -> np.ndarray:
        """(N, 3) positions z, y, x of the points, or of those `chosen` (N,), in mm from the lattice's origin."""
        flat = np.flatnonzero(self.occupied_zyx)
        indices = np.unravel_index(flat if chosen is None else flat[chosen], self.occupied_zyx.shape)
        return np.stack([(i + n) * s for i, n, s in zip(indices, self.start_zyx, spacing_zyx, strict=True)], axis=1)


def boundary_voxels(mask_zyx: np.ndarray, *, flat: bool = False) -> SurfaceElements | None:
    """The voxels of a bool array (z, y, x) that one erosion takes away; None when the mask is empty.

    Eroded by the six neighbours that share a face, with nothing beyond the image: a mask at the image's edge has
    surface there. `flat` is for a single slice that stands for a 2-D mask: it has no neighbours along z.
    """
    box = bounding_box(mask_zyx)
    if box is None:
        return None
    cropped = mask_zyx[box]
    padded = np.zeros([n + 2 for n in cropped.shape], dtype=bool)
    padded[1:-1, 1:-1, 1:-1] = cropped
    inner = cropped.copy()
    for axis in (1, 2) if flat else (0, 1, 2):
        for first in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(first, first + cropped.shape[axis])
            inner &= padded[tuple(window)]
    return SurfaceElements(cropped ^ inner, tuple(axis.start for axis in box))


def surfels(
    mask_zyx: np.ndarray, spacing_zyx: tuple[float, float, float], *, flat: bool = False
) -> SurfaceElements | None:
    """The corners at which voxels inside and outside meet, weighted by surface area in mm²; None for an empty mask.

    Corner (z, y, x) is the point that voxel (z, y, x) shares with voxel (z - 1, y - 1, x - 1); its weight is the area
    of the surface through the cell of the eight voxels around it. `flat` is for a single slice that stands for a 2-D
    mask: it goes on along z for ever, so that with a z spacing of 1 the weights are lengths of the contour in mm.
    """
    box = bounding_box(mask_zyx)
    if box is None:
        return None
    cropped = mask_zyx[box]
    depth = cropped.shape[0] + (1 if flat else 2)
    padded = np.zeros((depth, cropped.shape[1] + 2, cropped.shape[2] + 2), dtype=np.uint8)
    padded[slice(None) if flat else slice(1, -1), 1:-1, 1:-1] = cropped
    # The bits of a cell's voxels come together axis by axis, see `surface_areas` for their order.
    codes = padded[..., :-1] | padded[..., 1:] << 1
    codes = codes[:, :-1] | codes[:, 1:] << 2
    codes = codes[:-1] | codes[1:] << 4
    # Neither 0 (all outside) nor 255 (all inside), in one comparison: 255 + 1 wraps to 0.
    occupied = codes + np.uint8(1) > 1
    return SurfaceElements(occupied, tuple(axis.start for axis in box), surfel_areas_mm2(spacing_zyx)[codes[occupied]])
