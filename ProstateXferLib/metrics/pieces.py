# SPDX-License-Identifier: Apache-2.0
"""A mask cut down to its bounding box, with what is worth knowing about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.masks import bounding_box
from ProstateXferLib.metrics.shape import bounds_of_voxels, centroid_of_voxels, diameter_of_voxels

Vector = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Piece:
    """Voxels of one structure or component: a tight bool array (z, y, x) that starts at voxel `start_zyx` of the grid.

    Everything below needs at least one voxel but `voxel_count`, `volume_cm3` and `dice`.
    """

    mask_zyx: np.ndarray
    start_zyx: tuple[int, int, int]
    grid: Grid

    @classmethod
    def of(cls, mask_zyx: np.ndarray, start_zyx: tuple[int, int, int], grid: Grid) -> Piece:
        """The piece of a bool array (z, y, x) whose first voxel is voxel `start_zyx` of the grid."""
        box = bounding_box(mask_zyx) or (slice(0, 0),) * 3
        start = tuple(first + axis.start for first, axis in zip(start_zyx, box, strict=True))
        return cls(mask_zyx[box], start, grid)

    @cached_property
    def voxel_count(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask_zyx))

    @property
    def volume_cm3(self) -> float:
        """Number of voxels times the volume of one."""
        return self.voxel_count * self.grid.voxel_volume_mm3 / 1000

    @cached_property
    def centroid_lps(self) -> Vector:
        """Mean of the voxel centres, mm."""
        return centroid_of_voxels(self._indices_xyz, self.grid)

    @cached_property
    def bounds_lps(self) -> tuple[Vector, Vector]:
        """Least and greatest L, P, S over the voxel corners, mm."""
        return bounds_of_voxels(self._indices_xyz, self.grid)

    @cached_property
    def max_diameter_mm(self) -> float:
        """Largest distance between two outer face centres of voxels."""
        return diameter_of_voxels(self.mask_zyx, self.grid)

    @property
    def touches_border(self) -> bool:
        """Whether a voxel lies in the outermost layer of the image."""
        axes = zip(self.start_zyx, self.mask_zyx.shape, self.grid.shape_zyx, strict=True)
        return any(start == 0 or start + length == size for start, length, size in axes)

    def components(self) -> list[Piece]:
        """The 26-connected components, from the largest."""
        from scipy import ndimage

        labels, count = components_by_volume(self.mask_zyx)
        boxes = ndimage.find_objects(labels, max_label=count) if count else []
        starts = [tuple(s + b.start for s, b in zip(self.start_zyx, box, strict=True)) for box in boxes]
        return [
            Piece(labels[box] == number, start, self.grid)
            for number, (box, start) in enumerate(zip(boxes, starts, strict=True), start=1)
        ]

    def shared_voxels(self, other: Piece) -> int:
        """Number of voxels that lie in both, which are pieces of the same grid."""
        low = np.maximum(self.start_zyx, other.start_zyx)
        high = np.minimum(np.add(self.start_zyx, self.mask_zyx.shape), np.add(other.start_zyx, other.mask_zyx.shape))
        if (high <= low).any():
            return 0
        parts = [
            piece.mask_zyx[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, piece.start_zyx, strict=True))]
            for piece in (self, other)
        ]
        return int(np.count_nonzero(parts[0] & parts[1]))

    def dice(self, other: Piece) -> float:
        """Dice of two pieces of the same grid; 1 when neither has a voxel, as `overlap.dice` has it."""
        total = self.voxel_count + other.voxel_count
        return 2 * self.shared_voxels(other) / total if total else 1.0

    @cached_property
    def _indices_xyz(self) -> np.ndarray:
        """(N, 3) indices x, y, z of the voxels in the image."""
        return (np.argwhere(self.mask_zyx) + self.start_zyx)[:, ::-1]
