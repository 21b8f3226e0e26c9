# SPDX-License-Identifier: Apache-2.0
"""What single voices of a run say alone: members of an ensemble, folds, mirrorings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.pipelines.postprocessing import compose_labels
from ProstateXferLib.pipelines.unit import HeadFound

SAMPLED_BY = ("members", "folds", "mirrorings")


@dataclass(frozen=True)
class Sample:
    """One voice.

    Attributes:
        name: the model's name, "fold 2", "mirrored along y, x".
        labels: uint8 image on the result's grid, composed by this voice's own rules.
        structures: what its label values mean; those that it looks for.
    """

    name: str
    labels: sitk.Image
    structures: tuple[Structure, ...]


class Samples:
    """Collects what voices say, head by head, and makes labels of it; one voice after the other.

    Args:
        image: gives grid and spacing.
    """

    def __init__(self, image: sitk.Image) -> None:
        self._image, self._done = image, []
        self._name, self._card = "", None
        self._volumes: dict[str, np.ndarray] = {}

    def add(self, name: str, found: HeadFound) -> None:
        """One head of a voice; a new name ends the voice before it."""
        if name != self._name:
            self._finish()
            self._name, self._card = name, found.unit.card
        self._volumes.update(found.volumes)

    def result(self) -> tuple[Sample, ...]:
        """All of them, in the order in which they spoke."""
        self._finish()
        return tuple(self._done)

    def _finish(self) -> None:
        if self._card is not None:
            self._done.append(_sample(self._name, self._card, self._volumes, self._image))
        self._name, self._card, self._volumes = "", None, {}


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, numbered where one occurs several times: "unet 1", "unet 2"."""
    return [
        name if names.count(name) == 1 else f"{name} {list(names[: place + 1]).count(name)}"
        for place, name in enumerate(names)
    ]


def _sample(name: str, card: ModelCard, volumes: Mapping[str, np.ndarray], image: sitk.Image) -> Sample:
    labels = compose_labels(volumes, image, [card], card.structures)
    found = {value for head in card.heads for value in head.values}
    structures = tuple(structure for structure in card.structures if structure.value in found)
    return Sample(name, Grid.of(image).image(labels), structures)
