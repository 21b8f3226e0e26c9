# SPDX-License-Identifier: Apache-2.0
"""Training samples of synthesis: a source slice and the CT slice of the same place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache.pairs import PreparedPair
from ProstateXferLib.training.cache.slice_features import SliceFeatures
from ProstateXferLib.training.sampling.draws import generator_of


@dataclass(frozen=True)
class PairedSliceOptions:
    """How pairs are changed; both slices move together. The reference changes nothing (dgcf.md, section 1.2).

    Attributes:
        flip: left and right are swapped half the time.
        shift_px: slices are moved by up to so many pixels along each axis; what leaves on one side returns on the other
            (there is air).
    """

    flip: bool = False
    shift_px: int = 0

    def __post_init__(self) -> None:
        if self.shift_px < 0:
            raise ProstateXferError(f"The augmentation's shift_px is {self.shift_px}: give 0 or more pixels.")

    @property
    def changes(self) -> bool:
        """Whether slices are changed at all."""
        return self.flip or self.shift_px > 0


class PairedSlices:
    """Slices by number. From one source every slice comes once an epoch, in an order drawn anew for each; from several
    one is drawn by weight, then a case, then a slice.

    Each gives "image" and "target" (1, H, W) float32 in [-1, 1] and, with stored features, "features" (4, N, C).

    Args:
        sources: (weight, pairs) of every source.
        options: see `PairedSliceOptions`.
        seed: of everything that is drawn.
        features: frozen-encoder tokens of every slice; only where slices are not changed.

    Raises:
        ProstateXferError: a source without pairs, or features of slices that are changed.
    """

    def __init__(
        self,
        sources: Sequence[tuple[float, Sequence[PreparedPair]]],
        options: PairedSliceOptions,
        seed: int,
        *,
        features: SliceFeatures | None = None,
    ) -> None:
        if not sources or not all(pairs for _, pairs in sources):
            raise ProstateXferError("There is no pair to train on in one of the sources: check the recipe's data.")
        if features is not None and options.changes:
            raise ProstateXferError(
                "Stored features belong to unchanged slices: leave out flip and shift_px, or store no features."
            )
        weights = np.array([weight for weight, _ in sources], dtype=np.float64)
        self._shares = weights / weights.sum()
        self._sources = tuple(tuple(pairs) for _, pairs in sources)
        self._options, self._seed, self._features = options, seed, features
        pairs = self._sources[0]
        self._all = np.array([(p, z) for p, pair in enumerate(pairs) for z in range(pair.shape_zyx[0])], np.int32)
        self._length = sum(pair.shape_zyx[0] for pairs in self._sources for pair in pairs)

    def __len__(self) -> int:
        """All slices of all sources."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        random = generator_of(self._seed, index, "paired slice")
        pair, z = self._chosen(index, random)
        sample = {
            "image": torch.from_numpy(np.array(pair.source[z])[None]),
            "target": torch.from_numpy(np.array(pair.target[z])[None]),
        }
        if self._features is not None:
            return sample | {"features": self._features.of(pair, z)}
        if self._options.flip and random.random() < 0.5:
            sample = {name: slice_.flip(-1) for name, slice_ in sample.items()}
        if reach := self._options.shift_px:
            shift = random.integers(-reach, reach + 1, 2).tolist()
            sample = {name: torch.roll(slice_, shift, dims=(-2, -1)) for name, slice_ in sample.items()}
        return sample

    def _chosen(self, index: int, random: np.random.Generator) -> tuple[PreparedPair, int]:
        if len(self._sources) == 1:
            epoch, place = divmod(index, self._length)
            order = generator_of(self._seed, epoch, "order of pairs").permutation(self._length)
            pair, z = self._all[order[place]].tolist()
            return self._sources[0][pair], z
        pairs = self._sources[random.choice(len(self._sources), p=self._shares)]
        pair = pairs[random.integers(len(pairs))]
        return pair, int(random.integers(pair.shape_zyx[0]))
