# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's patches: the last third of every batch is forced to show foreground (nnU-Net v2; notes 4.2 and 4.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.draws import generator_of
from ProstateXferLib.training.sampling.tensors import cut_box


@dataclass(frozen=True)
class PatchOptions:
    """Size of the patches and how often they show foreground.

    Attributes:
        size: voxels along (z, y, x), or rows and columns of 2-D patches, which are cut from single slices.
        batch_size: of the loop: a sample's place in its batch says whether foreground is forced.
        oversample: share of a batch that is forced.
        final_size: what the augmentation leaves of `size` (augmentation.presets: `source_size` is what it needs);
            patches may reach so far beyond the image that the final one still reaches its edge. None: all of it.
        samples_per_epoch: None gives one a case.
    """

    size: tuple[int, ...]
    batch_size: int = 2
    oversample: float = 0.33
    final_size: tuple[int, ...] | None = None
    samples_per_epoch: int | None = None

    def __post_init__(self) -> None:
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise ProstateXferError(f"The patches' size is {self.size}: give two or three numbers of 1 or more.")
        final = self.final_size or self.size
        if len(final) != len(self.size) or any(f > s for f, s in zip(final, self.size, strict=True)):
            raise ProstateXferError(f"The patches' final_size {final} must lie within their size {self.size}.")
        if self.batch_size < 1 or not 0 <= self.oversample <= 1 or (self.samples_per_epoch or 1) < 1:
            raise ProstateXferError("The patches' batch_size starts at 1 and their oversample is a share from 0 to 1.")


class PatchSamples:
    """Patches by nnU-Net's rule; `samples[i]` depends on (seed, i) alone.

    The case is drawn with replacement. In place p = i mod batch_size of a batch, p >= round(batch_size * (1 -
    oversample)) forces foreground: one of the label values that the case has, then one of its stored voxels, which
    becomes the patch's centre; else, and where the case has nothing drawn, the patch lies anywhere. Both are clipped to
    the valid range.

    Each gives "image" (C, d, h, w) or (C, h, w) float32 padded with 0, "labels" int64 padded with -1 (every preset of
    augmentation ends by making that background, as nnU-Net does), "known" (S,) bool.

    Raises:
        ProstateXferError: no case.
    """

    def __init__(self, prepared: Sequence[PreparedCase], options: PatchOptions, seed: int) -> None:
        if not prepared:
            raise ProstateXferError("There is no case to cut patches from: check the recipe's data and split.")
        self._cases, self._options, self._seed = tuple(prepared), options, seed

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self._options.samples_per_epoch or len(self._cases)

    def forced(self, index: int) -> bool:
        """Whether sample `index` must show foreground where its case has any."""
        batch = self._options.batch_size
        return index % batch >= round(batch * (1 - self._options.oversample))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        random = generator_of(self._seed, index, "patch")
        case = self._cases[random.integers(len(self._cases))]
        options, flat = self._options, len(self._options.size) == 2
        size = (1, *options.size) if flat else options.size
        final = options.final_size or options.size
        final = (1, *final) if flat else final
        lowest, highest = valid_starts(case.shape_zyx, size, final)
        voxel = _foreground_voxel(case, random) if self.forced(index) else None
        if voxel is None:
            start = random.integers(lowest, highest + 1)
        else:
            start = np.clip(voxel - np.asarray(size) // 2, lowest, highest)
        cut = cut_box(case, start.tolist(), size)
        if flat:
            return {"image": cut["image"][:, 0], "labels": cut["labels"][0], "known": cut["known"]}
        return cut


def valid_starts(
    shape_zyx: Sequence[int], size_zyx: Sequence[int], final_zyx: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """First and last start (3,) of a patch along each axis, both included.

    A patch may stick out by half of what the augmentation takes off it; one that is larger than the image is centred.
    """
    shape, size, final = (np.asarray(item, dtype=np.int64) for item in (shape_zyx, size_zyx, final_zyx))
    spare = np.maximum(size - final, size - shape)
    return -(spare // 2), shape + spare // 2 + spare % 2 - size


def _foreground_voxel(case: PreparedCase, random: np.random.Generator) -> np.ndarray | None:
    """Position (3,) z, y, x: a class first, then a voxel of it, so that a small lesion comes up as often as a gland."""
    foreground = case.foreground
    if not foreground:
        return None
    positions = foreground[sorted(foreground)[random.integers(len(foreground))]]
    return np.array(positions[random.integers(len(positions))], dtype=np.int64)
