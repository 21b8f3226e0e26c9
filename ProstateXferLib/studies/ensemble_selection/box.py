# SPDX-License-Identifier: Apache-2.0
"""A box of voxels of an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.metrics.masks import bounding_box


@dataclass(frozen=True)
class Box:
    """First voxel and size, (z, y, x); a box may be empty."""

    start_zyx: tuple[int, int, int]
    shape_zyx: tuple[int, int, int]

    @property
    def empty(self) -> bool:
        """Whether it holds no voxel."""
        return 0 in self.shape_zyx

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Where it lies in the image's array."""
        return tuple(slice(start, start + length) for start, length in zip(self.start_zyx, self.shape_zyx, strict=True))

    def inside(self, outer: Box) -> tuple[slice, slice, slice]:
        """Where it lies in an array that fills `outer`, which holds it."""
        return tuple(
            slice(own.start - start, own.stop - start) for own, start in zip(self.slices, outer.start_zyx, strict=True)
        )

    def shared(self, other: Box) -> Box:
        """What lies in both."""
        first = np.maximum(self.start_zyx, other.start_zyx)
        last = np.minimum(np.add(self.start_zyx, self.shape_zyx), np.add(other.start_zyx, other.shape_zyx))
        return _box(first, np.maximum(last, first))

    @classmethod
    def of(cls, mask_zyx: np.ndarray, start_zyx: tuple[int, int, int] = (0, 0, 0)) -> Box:
        """The smallest box around the True voxels of an array that begins at `start_zyx`."""
        found = bounding_box(mask_zyx)
        if found is None:
            return EMPTY
        return _box(np.add(start_zyx, [axis.start for axis in found]), np.add(start_zyx, [axis.stop for axis in found]))

    @classmethod
    def around(cls, boxes: Iterable[Box]) -> Box:
        """The smallest box around all that are not empty."""
        full = [box for box in boxes if not box.empty]
        if not full:
            return EMPTY
        ends = [np.add(box.start_zyx, box.shape_zyx) for box in full]
        return _box(np.min([box.start_zyx for box in full], axis=0), np.max(ends, axis=0))


EMPTY = Box((0, 0, 0), (0, 0, 0))


def _box(first: np.ndarray, last: np.ndarray) -> Box:
    return Box(tuple(int(n) for n in first), tuple(int(n) for n in last - first))
