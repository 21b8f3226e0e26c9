# SPDX-License-Identifier: Apache-2.0
"""Covering a volume with overlapping windows and blending their logits, by nnU-Net's rules (specification 4.3).

A 2-D network's windows are one plane thick and lie in every plane; everything else is the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.pipelines.tiling import STEP, gaussian_weight, tile_starts


@dataclass(frozen=True)
class Windows:
    """How volumes of one shape are padded and cut.

    Attributes:
        shape_zyx: planes, rows and columns of the volume.
        window_zyx: of a window; (1, rows, columns) for a 2-D network.
        before_zyx: zero padding before the first plane, row and column; as much, or one more, follows the last one.
        padded_zyx: shape after padding; at least one window.
        starts: (plane, row, column) of every window in the padded volume; planes outermost.
        planar: whether they are those of a 2-D network.
        constant: whether windows count alike everywhere, instead of by a Gaussian.
        complete: whether every voxel lies in a window.
    """

    shape_zyx: tuple[int, int, int]
    window_zyx: tuple[int, int, int]
    before_zyx: tuple[int, int, int]
    padded_zyx: tuple[int, int, int]
    starts: tuple[tuple[int, int, int], ...]
    planar: bool
    constant: bool = False
    complete: bool = True

    @classmethod
    def over(cls, shape_zyx: tuple[int, int, int], sides: Sequence[int], step: float = STEP) -> "Windows":
        """Windows of these sides, (y, x) in every plane or (z, y, x), which advance by `step` of them at most."""
        planar = len(sides) == 2
        window = (1, *sides) if planar else tuple(sides)
        padded = tuple(max(n, side) for n, side in zip(shape_zyx, window, strict=True))
        before = tuple((p - n) // 2 for p, n in zip(padded, shape_zyx, strict=True))
        starts = [tile_starts(p, side, step) for p, side in zip(padded, window, strict=True)]
        if planar:
            starts[0] = list(range(padded[0]))
        return cls(tuple(shape_zyx), window, before, padded, tuple(product(*starts)), planar)

    @classmethod
    def of(
        cls,
        shape_zyx: tuple[int, int, int],
        preprocessing: Preprocessing,
        multiple: Sequence[int],
        *,
        step: float | None = None,
    ) -> "Windows":
        """The windows of a network whose tiles are multiples of `multiple`, (y, x) or (z, y, x).

        Without a tile in the card one window holds the whole slice or volume, its sides rounded up. Without a step the
        card's overlap says how far they advance.
        """
        tile = preprocessing.tile_yx if len(multiple) == 2 else preprocessing.tile_zyx
        if tile is None:
            tile = _whole(shape_zyx[-len(multiple) :], multiple)
        windows = cls.over(shape_zyx, tile, 1 - preprocessing.overlap if step is None else step)
        return replace(windows, constant=preprocessing.blending == "constant")

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where the volume lies in the padded one."""
        return tuple(slice(b, b + n) for b, n in zip(self.before_zyx, self.shape_zyx, strict=True))

    def holding(self, mask: Tensor) -> "Windows":
        """Those windows alone that hold a voxel of `mask`, (z, y, x) bool."""
        padded = self.padded(mask[None])[0]
        starts = tuple(start for start in self.starts if bool(padded[self.place(start)].any()))
        return replace(self, starts=starts, complete=len(starts) == len(self.starts))

    def padded(self, channels: Tensor) -> Tensor:
        """Channels (C, z, y, x) with zeros around them: (C, *padded_zyx); themselves where none are needed."""
        if self.padded_zyx == self.shape_zyx:
            return channels
        pairs = [(b, p - n - b) for p, n, b in zip(self.padded_zyx, self.shape_zyx, self.before_zyx, strict=True)]
        return F.pad(channels, [margin for pair in reversed(pairs) for margin in pair])

    def cut(self, padded: Tensor, starts: Sequence[tuple[int, int, int]]) -> Tensor:
        """Padded channels (C, *padded_zyx) -> windows (B, C, *window_zyx)."""
        return torch.stack([padded[(slice(None), *self.place(start))] for start in starts])

    def weight(self) -> Tensor:
        """Weight (*window_zyx) of a window's voxels."""
        return torch.ones(self.window_zyx) if self.constant else gaussian_weight(self.window_zyx)

    def in_batches(self, size: int) -> Iterator[tuple[tuple[int, int, int], ...]]:
        """The starts, `size` at a time."""
        for first in range(0, len(self.starts), size):
            yield self.starts[first : first + size]

    def place(self, start: tuple[int, int, int]) -> tuple[slice, ...]:
        """The voxels of one window in the padded volume."""
        return tuple(slice(first, first + side) for first, side in zip(start, self.window_zyx, strict=True))


def _whole(sides: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """The sides rounded up to their multiples; never a single step along every axis, which no instance norm takes."""
    tile = [math.ceil(n / step) * step for n, step in zip(sides, multiple, strict=True)]
    if list(multiple) == tile:
        tile[-1] *= 2
    return tuple(tile)
