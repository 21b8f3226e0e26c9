# SPDX-License-Identifier: Apache-2.0
"""Which network architectures a model card may name, and what their arguments say about the input; read without torch.

"Dense" architectures take whole tiles, slices (2-D) or volumes (3-D), and give logits of the same size; their output
channels are those of the card's heads one after another, each head's background first. An "ensemble" has no network of
its own: its arguments name other checkpoints (ensemble_card.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        task: what it can do.
        channels_key, classes_key: arguments that hold the number of input channels and of output channels; empty for
            networks that are not dense.
    """

    task: str
    channels_key: str = ""
    classes_key: str = ""

    @property
    def dense(self) -> bool:
        """Whether it maps tiles to logits of the same size (pipelines/dense_group.py)."""
        return bool(self.classes_key)


ENSEMBLE = "ensemble"
ARCHITECTURES = {
    "mr_dinov3": Architecture("segmentation"),
    "plain_conv_unet": Architecture("segmentation", "input_channels", "num_classes"),
    "residual_encoder_unet": Architecture("segmentation", "input_channels", "num_classes"),
    "smp": Architecture("segmentation", "channels", "classes"),
    "swin_unetr": Architecture("segmentation", "in_channels", "out_channels"),
    ENSEMBLE: Architecture("segmentation"),
    "dgcf": Architecture("synthesis"),
    "dinov3": Architecture("encoder"),
}
TASKS = tuple(dict.fromkeys(architecture.task for architecture in ARCHITECTURES.values()))
PATCH = 16
"""Side of a DINOv3 patch; networks/dinov3.py has it too, but a card is read without torch."""
_FIVE_HALVINGS = 32
"""Encoders of segmentation_models_pytorch halve five times; SwinUNETR's patches of 2 are merged four times."""
STARTING_ARGUMENTS = ("encoder_weights", "weights_file")
"""Arguments that say what a fresh network starts from: a recipe's matter, not a card's."""


def dimensions(architecture: str, arguments: Mapping[str, Any]) -> int:
    """2 or 3: what the network runs over.

    Raises:
        ProstateXferError: the arguments do not tell.
    """
    if architecture in ("plain_conv_unet", "residual_encoder_unet"):
        return len(_strides(architecture, arguments)[0])
    if architecture != "swin_unetr":
        return 2
    count = arguments.get("spatial_dims", 3)
    if count not in (2, 3):
        raise ProstateXferError(f"A swin_unetr runs over 2 or 3 spatial_dims, not {count}.")
    return count


def tile_multiple(architecture: str, arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """What the sides of a tile must be multiples of, for each axis the network runs over: (y, x) or (z, y, x).

    Raises:
        ProstateXferError: the arguments do not tell.
    """
    if architecture in ("plain_conv_unet", "residual_encoder_unet"):
        return tuple(math.prod(axis) for axis in zip(*_strides(architecture, arguments), strict=True))
    side = _FIVE_HALVINGS if architecture in ("smp", "swin_unetr") else PATCH
    return (side,) * dimensions(architecture, arguments)


def complete_arguments(
    architecture: str, arguments: Mapping[str, Any], *, channels: int, classes: int
) -> dict[str, Any]:
    """The arguments with the numbers of input and output channels added; for a network that is about to be trained.

    Raises:
        ProstateXferError: not a dense architecture, or the arguments already say something else.
    """
    known = ARCHITECTURES.get(architecture)
    if known is None or not known.dense:
        names = ", ".join(name for name, kind in ARCHITECTURES.items() if kind.dense)
        raise ProstateXferError(f"'{architecture}' is no dense architecture: use one of {names}.")
    complete = dict(arguments)
    for key, count in ((known.channels_key, channels), (known.classes_key, classes)):
        if complete.setdefault(key, count) != count:
            raise ProstateXferError(f"The network's {key} is {complete[key]}, but {count} are needed: leave it out.")
    return complete


def card_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as a card stores them: without what says where a fresh network starts from."""
    return {key: value for key, value in arguments.items() if key not in STARTING_ARGUMENTS}


def _strides(architecture: str, arguments: Mapping[str, Any]) -> list[list[int]]:
    strides = arguments.get("strides")
    rows = isinstance(strides, list | tuple) and strides and all(isinstance(row, list | tuple) for row in strides)
    axes = {len(row) for row in strides} if rows else set()
    numbers = rows and all(isinstance(step, int) and step > 0 for row in strides for step in row)
    if not numbers or axes not in ({2}, {3}):
        raise ProstateXferError(
            f"The arguments of a {architecture} need 'strides': one list of 2 or 3 whole numbers per stage."
        )
    return strides
