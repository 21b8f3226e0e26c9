# SPDX-License-Identifier: Apache-2.0
"""What presets are made of: changes that happen with a probability, to the whole sample or channel by channel.

Every draw comes from the generator that is handed through, MONAI's too, so that a sample's number decides all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Change = Callable[[Tensor, Tensor, np.random.RandomState], tuple[Tensor, Tensor]]
"""(image (C, ...) float32, labels (...) int64, generator) -> both, changed; inputs are left as they are."""
ImageChange = Callable[[Tensor, np.random.RandomState], Tensor]
"""(image (C, ...) float32, generator) -> image."""


@dataclass(frozen=True)
class Step:
    """One change of a preset.

    Attributes:
        name: for tests and listings.
        probability: share of the samples that it happens to.
        change: what happens.
    """

    name: str
    probability: float
    change: Change

    def __call__(self, image: Tensor, labels: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        """The sample, changed or not."""
        if random.uniform() < self.probability:
            return self.change(image, labels, random)
        return image, labels


def image_only(change: ImageChange) -> Change:
    """A change that leaves the labels alone."""
    return lambda image, labels, random: (change(image, random), labels)


def each_channel(change: ImageChange, probability: float = 1.0) -> Change:
    """Change every channel by draws of its own, each with this probability."""

    def apply(image: Tensor, labels: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        channels = [
            change(channel[None], random) if random.uniform() < probability else channel[None] for channel in image
        ]
        return torch.cat(channels), labels

    return apply


def one_of(steps: Sequence[Step]) -> Change:
    """One of the steps, drawn with equal chances; its own probability still applies."""
    return lambda image, labels, random: steps[random.randint(len(steps))](image, labels, random)


def monai_image(transform: Any) -> ImageChange:
    """A MONAI array transform of images, given with prob=1: the probability is the step's."""

    def apply(image: Tensor, random: np.random.RandomState) -> Tensor:
        transform.set_random_state(state=random)
        return plain(transform(image))

    return apply


def monai_pair(transform: Any) -> Change:
    """A MONAI dictionary transform with the keys "image" and "labels", given with prob=1; labels as one channel."""

    def apply(image: Tensor, labels: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        transform.set_random_state(state=random)
        done = transform({"image": image, "labels": labels[None]})
        return plain(done["image"]), plain(done["labels"])[0].long()

    return apply


def in_slices(change: ImageChange) -> ImageChange:
    """A 2-D change with the same draws for all slices of a volume (1, D, H, W): they take the place of channels."""
    return lambda image, random: change(image[0], random)[None]


def plain(tensor: Tensor) -> Tensor:
    """MONAI's MetaTensor as the tensor that it is."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor


def flips(spatial_dims: int) -> list[Step]:
    """Mirroring along every axis, each for half of the samples."""
    from monai.transforms import RandFlipd

    keys = ("image", "labels")
    return [
        Step(f"mirror axis {axis}", 0.5, monai_pair(RandFlipd(keys, prob=1.0, spatial_axis=axis)))
        for axis in range(spatial_dims)
    ]
