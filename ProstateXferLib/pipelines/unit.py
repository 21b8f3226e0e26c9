# SPDX-License-Identifier: Apache-2.0
"""What counts as one in an average, and what a group of networks says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.checkpoints.loading import Checkpoint

Numbered = Sequence[tuple[int, Checkpoint]]
"""Checkpoints with their numbers in the Segmenter."""


@dataclass(frozen=True)
class Unit:
    """A checkpoint, or folds of one nnU-Net whose logits are averaged first.

    Attributes:
        card: of its (first) checkpoint; names its structures and heads.
        numbers: of its checkpoints in the Segmenter.
    """

    card: ModelCard
    numbers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class HeadFound:
    """What one head of one unit says on the image's grid.

    Attributes:
        unit: whose.
        head: which.
        volumes: structure name -> probability (z, y, x), float32; the background's under
            `postprocessing.background_of`, where the unit tells it.
    """

    unit: Unit
    head: Head
    volumes: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """The head's structures."""
        return names_found(self.unit.card, self.head)

    def copied(self) -> "HeadFound":
        """With volumes of its own: an `OpinionPool` writes to those it is given."""
        return replace(self, volumes={name: volume.copy() for name, volume in self.volumes.items()})


Part = Callable[[str, HeadFound], None]
"""Told what a part of a unit (a fold, a mirroring) says alone: the part's name and one of its heads."""
