# SPDX-License-Identifier: Apache-2.0
"""Samples that go through an augmentation, seeded by their number."""

from collections.abc import Callable

from torch import Tensor

from ProstateXferLib.training.sampling.draws import draw_seed
from ProstateXferLib.training.tasks.task import Samples


class AugmentedSamples:
    """`augmentation(samples[i], seed of i)`; depends on (seed, i) alone.

    Args:
        samples: what is augmented, cut to the augmentation's `source_size`.
        augmentation: see `augmentation.presets.preset`.
        seed: of the stage.
    """

    def __init__(
        self, samples: Samples, augmentation: Callable[[dict[str, Tensor], int], dict[str, Tensor]], seed: int
    ) -> None:
        self._samples, self._augmentation, self._seed = samples, augmentation, seed

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        return self._augmentation(self._samples[index], draw_seed(self._seed, index, "augmentation"))
