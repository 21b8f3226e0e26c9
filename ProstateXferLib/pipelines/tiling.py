# SPDX-License-Identifier: Apache-2.0
"""Covering a slice with overlapping tiles and blending their logits, by nnU-Net's rules (specification 4.3).

Unlike nnU-Net the accumulators are fp32: in fp16 the Gaussian underflows near the corners.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STEP = 0.5
"""Tiles advance by half their size."""
_SIGMA = 1 / 8  # of the tile's side


@dataclass(frozen=True)
class Tiling:
    """How slices of one size are padded and cut.

    Attributes:
        size_yx: rows and columns of the slices.
        tile_yx: rows and columns of a tile.
        before_yx: rows and columns of zero padding above and to the left.
        padded_yx: size after padding; at least one tile.
        starts: (row, column) of every tile in the padded slice.
    """

    size_yx: tuple[int, int]
    tile_yx: tuple[int, int]
    before_yx: tuple[int, int]
    padded_yx: tuple[int, int]
    starts: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        size_yx: tuple[int, int],
        tile_yx: tuple[int, int] | None,
        multiple: int = 16,
        *,
        step: float = STEP,
    ) -> "Tiling":
        """Tiles of `tile_yx`, or one tile that holds the whole slice (sides rounded up to `multiple`)."""
        if tile_yx is None:
            tile_yx = tuple(math.ceil(n / multiple) * multiple for n in size_yx)
        padded = tuple(max(n, t) for n, t in zip(size_yx, tile_yx, strict=True))
        before = tuple((p - n) // 2 for p, n in zip(padded, size_yx, strict=True))
        rows, columns = (tile_starts(p, t, step) for p, t in zip(padded, tile_yx, strict=True))
        return cls(size_yx, tile_yx, before, padded, tuple((r, c) for r in rows for c in columns))

    def cut(self, slices: Tensor) -> Tensor:
        """Slices (B, H, W) -> tiles (B * tiles, 1, h, w); the tiles of one slice follow each other."""
        padded = self._pad(slices)
        height, width = self.tile_yx
        tiles = [padded[:, r : r + height, c : c + width] for r, c in self.starts]
        return torch.stack(tiles, dim=1).flatten(0, 1)[:, None]

    def blend(self, logits: Tensor) -> Tensor:
        """Tiles' logits (B * tiles, K, h, w) -> slices' logits (B, K, H, W), fp32, Gaussian weighted."""
        count = len(self.starts)
        if count == 1:
            return self._crop(logits.float())
        tiles = logits.float().view(-1, count, *logits.shape[1:])
        weight = gaussian_weight(self.tile_yx).to(tiles.device)
        total = tiles.new_zeros(len(tiles), tiles.shape[2], *self.padded_yx)
        norm = tiles.new_zeros(self.padded_yx)
        height, width = self.tile_yx
        for index, (r, c) in enumerate(self.starts):
            total[:, :, r : r + height, c : c + width] += tiles[:, index] * weight
            norm[r : r + height, c : c + width] += weight
        return self._crop(total / norm)

    def _pad(self, slices: Tensor) -> Tensor:
        after = [p - n - b for p, n, b in zip(self.padded_yx, self.size_yx, self.before_yx, strict=True)]
        return F.pad(slices, (self.before_yx[1], after[1], self.before_yx[0], after[0]))

    def _crop(self, padded: Tensor) -> Tensor:
        (top, left), (height, width) = self.before_yx, self.size_yx
        return padded[..., top : top + height, left : left + width]


def tile_starts(size: int, tile: int, step: float = STEP) -> list[int]:
    """First indices of the tiles along one axis, spread evenly from edge to edge.

    The distance is divided first and multiplied afterwards, as nnU-Net does: the other order rounds some halves
    otherwise.
    """
    count = math.ceil((size - tile) / (tile * step)) + 1
    if count == 1:
        return [0]
    distance = (size - tile) / (count - 1)
    return [round(distance * i) for i in range(count)]


def gaussian_weight(tile: tuple[int, ...]) -> Tensor:
    """Weight (*tile) of a tile's pixels or voxels: a Gaussian of an eighth of each side, peak 1.

    Its corners are 1e-7 (2-D) and 4e-11 (3-D): small, but not 0 in fp32, and not to be raised, because at the edges of
    an image such weights alone say which of two tiles counts.
    """
    weight = torch.ones(())
    for side in tile:
        distance = torch.arange(side, dtype=torch.float32) - side // 2
        weight = weight[..., None] * torch.exp(-0.5 * (distance / (side * _SIGMA)) ** 2)
    return weight
