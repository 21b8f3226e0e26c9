# SPDX-License-Identifier: Apache-2.0
"""Several sources of samples as one, each as often as its weight says."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.sampling.draws import generator_of
from ProstateXferLib.training.tasks.task import Samples


class MixtureSamples:
    """Samples of several sources by weight; `samples[i]` depends on (seed, i) alone.

    An epoch holds each source's exact share (to a whole sample), in an order drawn anew; every source is asked for its
    samples 0, 1, 2, ... one after the other, so that what it promises for its own epochs (every slice once, every
    lesion once) stays true. A place in a batch means nothing to a source any more: of nnU-Net's patches about a third
    are forced still, but not the last third of each batch.

    Args:
        sources: (weight, samples) pairs; weights are relative and above 0.
        seed: of the order.
        samples_per_epoch: None takes the sum of the sources' lengths.

    Raises:
        ProstateXferError: no source, or a weight of 0 or less.
    """

    def __init__(
        self, sources: Sequence[tuple[float, Samples]], seed: int, *, samples_per_epoch: int | None = None
    ) -> None:
        weights = np.array([weight for weight, _ in sources], dtype=np.float64)
        if not len(weights) or not (np.isfinite(weights) & (weights > 0)).all():
            raise ProstateXferError(f"Sources need weights above 0; they are {weights.tolist()}.")
        self._sources, self._seed = tuple(samples for _, samples in sources), seed
        count = samples_per_epoch or sum(len(samples) for samples in self._sources)
        self._counts = _whole_shares(weights, max(count, 1))
        # Which source each sample of an epoch belongs to, before the order is drawn.
        self._owners = np.repeat(np.arange(len(self._sources), dtype=np.int32), self._counts)

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self._owners)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        epoch, place = divmod(index, len(self))
        order = generator_of(self._seed, epoch, "order of sources").permutation(self._owners)
        owner = int(order[place])
        before = int((order[:place] == owner).sum())
        return self._sources[owner][epoch * int(self._counts[owner]) + before]


def _whole_shares(weights: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers that sum to `count` and follow the weights; the largest remainders are rounded up."""
    shares = weights / weights.sum() * count
    whole = np.floor(shares).astype(np.int64)
    order = np.argsort(whole - shares, kind="stable")
    whole[order[: count - whole.sum()]] += 1
    return whole
