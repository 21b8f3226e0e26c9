# SPDX-License-Identifier: Apache-2.0
"""Covering a volume with overlapping windows and blending their logits, by nnU-Net's rules (specification 4.3).

A 2-D network's windows are one plane thick and lie in every plane; everything else is the same. Unlike nnU-Net the
accumulators are fp32: in fp16 the Gaussian underflows near the corners.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.pipelines.tiling import gaussian_weight, tile_starts


@dataclass(frozen=True)
class Windows:
    """How volumes of one shape are padded and cut.

    Attributes:
        shape_zyx: planes, rows and columns of the volume.
        window_zyx: of a window; (1, rows, columns) for a 2-D network.
        before_zyx: zero padding before the first plane, row and column; as much, or one more, follows the last one.
        padded_zyx: shape after padding; at least one window.
        starts: (plane, row, column) of every window in the padded volume; planes outermost.
        constant: whether windows count alike everywhere, instead of by a Gaussian.
    """

    shape_zyx: tuple[int, int, int]
    window_zyx: tuple[int, int, int]
    before_zyx: tuple[int, int, int]
    padded_zyx: tuple[int, int, int]
    starts: tuple[tuple[int, int, int], ...]
    constant: bool

    @classmethod
    def of(cls, shape_zyx: tuple[int, int, int], preprocessing: Preprocessing, multiple: Sequence[int]) -> "Windows":
        """The windows of a network whose tiles are multiples of `multiple`, (y, x) or (z, y, x).

        Without a tile in the card one window holds the whole slice or volume, its sides rounded up.
        """
        planar = len(multiple) == 2
        tile = preprocessing.tile_yx if planar else preprocessing.tile_zyx
        if tile is None:
            tile = _whole(shape_zyx[-len(multiple) :], multiple)
        window = (1, *tile) if planar else tile
        padded = tuple(max(n, side) for n, side in zip(shape_zyx, window, strict=True))
        before = tuple((p - n) // 2 for p, n in zip(padded, shape_zyx, strict=True))
        starts = [tile_starts(p, side, 1 - preprocessing.overlap) for p, side in zip(padded, window, strict=True)]
        if planar:
            starts[0] = list(range(padded[0]))
        return cls(shape_zyx, window, before, padded, tuple(product(*starts)), preprocessing.blending == "constant")

    def padded(self, channels: Tensor) -> Tensor:
        """Channels (C, z, y, x) with zeros around them: (C, *padded_zyx)."""
        pairs = [(b, p - n - b) for p, n, b in zip(self.padded_zyx, self.shape_zyx, self.before_zyx, strict=True)]
        return F.pad(channels, [margin for pair in reversed(pairs) for margin in pair])

    def cut(self, padded: Tensor, starts: Sequence[tuple[int, int, int]]) -> Tensor:
        """Padded channels (C, *padded_zyx) -> windows (B, C, *window_zyx)."""
        return torch.stack([padded[(slice(None), *self._place(start))] for start in starts])

    def weight(self) -> Tensor:
        """Weight (*window_zyx) of a window's voxels."""
        return torch.ones(self.window_zyx) if self.constant else gaussian_weight(self.window_zyx)

    def in_batches(self, size: int) -> Iterator[tuple[tuple[int, int, int], ...]]:
        """The starts, `size` at a time."""
        for first in range(0, len(self.starts), size):
            yield self.starts[first : first + size]

    def _place(self, start: tuple[int, int, int]) -> tuple[slice, ...]:
        return tuple(slice(first, first + side) for first, side in zip(start, self.window_zyx, strict=True))


class Blend:
    """Windows' logits, weighted and added up, fp32.

    Args:
        windows: how the volume was cut.
        classes: channels of the logits.
    """

    def __init__(self, windows: Windows, classes: int) -> None:
        self._windows, self._weight = windows, windows.weight()
        self._total = torch.zeros(classes, *windows.padded_zyx)
        self._norm = torch.zeros(windows.padded_zyx)

    def add(self, start: tuple[int, int, int], logits: Tensor) -> None:
        """One window's logits (K, *window_zyx), on the CPU."""
        place = self._windows._place(start)
        self._total[(slice(None), *place)] += logits * self._weight
        self._norm[place] += self._weight

    def result(self) -> Tensor:
        """Logits (K, *shape_zyx), the padding cut away; to be asked for once."""
        inner = tuple(slice(b, b + n) for b, n in zip(self._windows.before_zyx, self._windows.shape_zyx, strict=True))
        return self._total[(slice(None), *inner)].div_(self._norm[inner])


def _whole(sides: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """The sides rounded up to their multiples; never a single step along every axis, which no instance norm takes."""
    tile = [math.ceil(n / step) * step for n, step in zip(sides, multiple, strict=True)]
    if list(multiple) == tile:
        tile[-1] *= 2
    return tuple(tile)
