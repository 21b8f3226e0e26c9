# SPDX-License-Identifier: Apache-2.0
"""Samples of self-supervised training: the crops of one unlabelled slice, and which of their patches are hidden."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.training.augmentation.block_masks import block_mask, masked_counts
from ProstateXferLib.training.augmentation.slice_intensity import standardised
from ProstateXferLib.training.augmentation.views import GLOBAL_CROPS, CropSizes, ViewOptions, slice_views
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.draws import draw_seed, generator_of


@dataclass(frozen=True)
class MaskOptions:
    """What iBOT hides.

    Attributes:
        share: of the large crops of a batch that have hidden patches.
        ratio: (least, greatest) share of a crop's patches; the masked crops of a batch are spread evenly between.
    """

    share: float = 0.5
    ratio: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.ratio[0] <= self.ratio[1] < 1:
            raise ProstateXferError("Masks: share is from 0 to 1, ratio two increasing shares below 1.")


@dataclass(frozen=True)
class UnlabelledCase:
    """A prepared image of one sequence; slices of CT come clamped to HU, all others are clamped to percentiles."""

    prepared: PreparedCase
    clamp_percentiles: bool

    def slice_at(self, z: int) -> Tensor:
        """Axial slice z (H, W), standardised on its own."""
        pixels = torch.from_numpy(np.array(self.prepared.image[0, z]))
        return standardised(pixels, clamp_percentiles=self.clamp_percentiles)


class ViewSamples:
    """Crops by number; `samples[i]` depends on (seed, i, batch size) alone.

    Each gives "large" (2, 1, L, L), "small" (n, 1, S, S), "gram" (2, 1, G, G) where the sizes say so, float32, and
    "masks" (2, (L/16)^2) bool. Sample i belongs to batch i // batch_size, which decides on the crops' sizes and on how
    many patches each of its large crops hides: half of them none, the others from a tenth to a half (reference notes
    3.4), dealt out at random.

    Args:
        sources: (weight, images); a source is drawn by weight, then one of its slices, each as likely as the others.
        sizes: sets of crop sizes, drawn by their share.
        views, masks: what crops show and hide.
        batch_size: samples of an optimiser step.
        seed: of everything that is drawn.

    Raises:
        ProstateXferError: there is no slice.
    """

    def __init__(
        self,
        sources: Sequence[tuple[float, Sequence[UnlabelledCase]]],
        *,
        sizes: Sequence[CropSizes],
        views: ViewOptions,
        masks: MaskOptions,
        batch_size: int,
        seed: int,
    ) -> None:
        self._sources = [tuple(cases) for _, cases in sources if cases]
        weights = np.array([weight for weight, cases in sources if cases], dtype=float)
        if not self._sources or weights.sum() <= 0:
            raise ProstateXferError("There is no image to learn from: check the stage's data and its sequences.")
        self._weights = weights / weights.sum()
        self._ends = [np.cumsum([case.prepared.shape_zyx[0] for case in cases]) for cases in self._sources]
        self._sizes, self._views, self._masks = tuple(sizes), views, masks
        self._batch_size, self._seed = batch_size, seed

    def __len__(self) -> int:
        """Slices of all sources."""
        return int(sum(ends[-1] for ends in self._ends))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        drawn = generator_of(self._seed, index, "slice")
        source = int(drawn.choice(len(self._sources), p=self._weights))
        number = int(drawn.integers(self._ends[source][-1]))
        place = int(np.searchsorted(self._ends[source], number, side="right"))
        case = self._sources[source][place]
        z = number - int(self._ends[source][place]) + case.prepared.shape_zyx[0]
        batch, position = divmod(index, self._batch_size)
        sizes = self._sizes_of(batch)
        generator = torch.Generator().manual_seed(draw_seed(self._seed, index, "views"))
        views = slice_views(case.slice_at(z), sizes, self._views, generator)
        return views | {"masks": self._masks_of(batch, position, index, sizes.large // PATCH)}

    def _sizes_of(self, batch: int) -> CropSizes:
        shares = np.array([sizes.share for sizes in self._sizes])
        chosen = generator_of(self._seed, batch, "crop sizes").choice(len(self._sizes), p=shares / shares.sum())
        return self._sizes[int(chosen)]

    def _masks_of(self, batch: int, position: int, index: int, side: int) -> Tensor:
        """(2, side * side) bool for the sample at this position of its batch."""
        crops = GLOBAL_CROPS * self._batch_size
        counts = masked_counts(crops, side**2, share=self._masks.share, ratio=self._masks.ratio)
        order = generator_of(self._seed, batch, "masked crops").permutation(crops)
        masks = []
        for view in range(GLOBAL_CROPS):
            seed = draw_seed(self._seed, index, f"mask {view}")
            mask = block_mask(
                (side, side),
                counts[order[view * self._batch_size + position]],
                rectangles=random.Random(seed),
                singles=np.random.RandomState(seed),
                largest=self._masks.ratio[1] * side**2,
            )
            masks.append(torch.from_numpy(mask.ravel()))
        return torch.stack(masks)
