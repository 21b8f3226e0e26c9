# SPDX-License-Identifier: Apache-2.0
"""Where shapes are evaluated: blocks of voxel centres of a grid, or loose points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ProstateXferLib.images.grid import Grid


class Places(Protocol):
    """Positions in LPS mm of which a shape asks only linear functions."""

    def linear(self, normal_lps: np.ndarray, offset_mm: float) -> np.ndarray:
        """normal . p + offset for every position p."""
        ...


@dataclass(frozen=True)
class Points:
    """Loose positions, (..., 3) in LPS mm."""

    positions_lps: np.ndarray

    def linear(self, normal_lps: np.ndarray, offset_mm: float) -> np.ndarray:
        """normal . p + offset, shape (...)."""
        return np.asarray(self.positions_lps) @ np.asarray(normal_lps) + offset_mm


@dataclass(frozen=True)
class Block:
    """The voxel centres start <= index < stop (z, y, x) of a grid.

    A linear function of position is a sum of one function per index axis, so no array of positions is ever built, and
    axes along which the function is constant keep length 1: on an axial grid most terms are rows or columns.
    """

    grid: Grid
    start_zyx: tuple[int, int, int]
    stop_zyx: tuple[int, int, int]

    @classmethod
    def whole(cls, grid: Grid) -> Block:
        """All voxels of the grid."""
        return cls(grid, (0, 0, 0), grid.shape_zyx)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        return tuple(b - a for a, b in zip(self.start_zyx, self.stop_zyx, strict=True))

    def index_coefficients(self, normals_lps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., 3) change of normal . p per step along z, y, x, and (...) its value at the block's first voxel."""
        steps_lps = self.grid.direction_matrix * np.asarray(self.grid.spacing_xyz)
        first_lps = self.grid.index_to_lps(np.asarray(self.start_zyx[::-1]))
        return (normals_lps @ steps_lps)[..., ::-1], normals_lps @ first_lps

    def linear(self, normal_lps: np.ndarray, offset_mm: float) -> np.ndarray:
        """normal . p + offset, broadcastable to the block's shape (z, y, x)."""
        slopes_zyx, first = self.index_coefficients(np.asarray(normal_lps, dtype=np.float64))
        total = np.full((1, 1, 1), first + offset_mm)
        for axis, (slope, count) in enumerate(zip(slopes_zyx, self.shape_zyx, strict=True)):
            # Direction cosines carry rounding noise of 1e-16; below a nanometre the axis counts as constant.
            if abs(slope) * count > 1e-6:
                shape = [1, 1, 1]
                shape[axis] = count
                total = total + (slope * np.arange(count)).reshape(shape)
        return total

    def within(self, bounds_lps: np.ndarray) -> Block | None:
        """The smallest part of this block around the box (2, 3) low, high in LPS mm; None where they do not meet."""
        low, high = bounds_lps
        corners = np.array([(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        indices_zyx = self.grid.lps_to_index(corners)[:, ::-1]
        start = np.maximum(np.floor(indices_zyx.min(axis=0)).astype(int), self.start_zyx)
        stop = np.minimum(np.ceil(indices_zyx.max(axis=0)).astype(int) + 1, self.stop_zyx)
        if np.any(stop <= start):
            return None
        return Block(self.grid, tuple(int(n) for n in start), tuple(int(n) for n in stop))

    def slices_in(self, outer: Block) -> tuple[slice, slice, slice]:
        """Index of this block in an array made for `outer`."""
        return tuple(
            slice(a - origin, b - origin)
            for a, b, origin in zip(self.start_zyx, self.stop_zyx, outer.start_zyx, strict=True)
        )


def slabs(grid: Grid, max_voxels: int = 2_000_000) -> list[Block]:
    """The grid cut along its slowest axis into blocks of at most about `max_voxels`, to bound the memory."""
    depth, height, width = grid.shape_zyx
    step = max(1, max_voxels // (height * width))
    return [Block(grid, (z, 0, 0), (min(z + step, depth), height, width)) for z in range(0, depth, step)]
