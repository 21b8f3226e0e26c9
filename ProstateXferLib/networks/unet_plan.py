# SPDX-License-Identifier: Apache-2.0
"""Sizes of a U-Net in the words of nnU-Net's `arch_kwargs`, checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ProstateXferLib.errors import ProstateXferError

# What nnU-Net's plans say besides the sizes; a network with anything else has other layers than ours.
_CONSTANTS = {
    "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
    "dropout_op": (None,),
    "dropout_op_kwargs": (None, {}),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "nonlin_kwargs": ({"inplace": True}, {}),
}
_BY_DIMENSION = {"conv_op": "torch.nn.modules.conv.Conv{}d", "norm_op": "torch.nn.modules.instancenorm.InstanceNorm{}d"}


@dataclass(frozen=True)
class UNetPlan:
    """Sizes of a U-Net, stage 0 at full resolution.

    Attributes:
        input_channels, num_classes: channels of the image and of the logits.
        features_per_stage: channels of each stage.
        kernel_sizes, strides: per stage and axis, (y, x) or (z, y, x).
        blocks_per_stage: convolutions or residual blocks of each stage.
        n_conv_per_stage_decoder: convolutions of each decoder stage, deepest first.
        conv_bias: whether convolutions have a bias.
    """

    input_channels: int
    num_classes: int
    features_per_stage: tuple[int, ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks_per_stage: tuple[int, ...]
    n_conv_per_stage_decoder: tuple[int, ...]
    conv_bias: bool

    def __post_init__(self) -> None:
        stages = len(self.features_per_stage)
        if stages < 2:
            raise ProstateXferError("A U-Net needs at least two stages.")
        lengths = {"kernel_sizes": stages, "strides": stages, "blocks_per_stage": stages}
        for name, length in {**lengths, "n_conv_per_stage_decoder": stages - 1}.items():
            if len(getattr(self, name)) != length:
                raise ProstateXferError(
                    f"A U-Net of {stages} stages needs {length} entries in {name}, not {len(getattr(self, name))}."
                )
        sizes = [*self.kernel_sizes, *self.strides]
        if {len(row) for row in sizes} not in ({2}, {3}):
            raise ProstateXferError("A U-Net's kernel_sizes and strides need 2 or 3 numbers per stage, all alike.")
        counts = (self.input_channels, self.num_classes, *self.features_per_stage, *self.blocks_per_stage)
        numbers = (*counts, *self.n_conv_per_stage_decoder, *(side for row in sizes for side in row))
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ProstateXferError("A U-Net's sizes must be whole numbers above zero.")
        if any(side % 2 == 0 for row in self.kernel_sizes for side in row):
            raise ProstateXferError(f"A U-Net's kernel_sizes must be odd; they are {self.kernel_sizes}.")

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def multiple(self) -> tuple[int, ...]:
        """What the sides of an input must be multiples of."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def unet_plan(arguments: Mapping[str, Any], *, blocks_key: str) -> UNetPlan:
    """A plan from a network's keyword arguments, whose lists become tuples; one number stands for every stage.

    Raises:
        ProstateXferError: sizes that do not fit each other.
    """
    values = dict(arguments)
    stages = values.pop("n_stages")
    values["blocks_per_stage"] = values.pop(blocks_key)
    counts = {"features_per_stage": stages, "blocks_per_stage": stages, "n_conv_per_stage_decoder": stages - 1}
    for key, count in counts.items():
        values[key] = (values[key],) * count if isinstance(values[key], int) else tuple(values[key])
    for key in ("kernel_sizes", "strides"):
        values[key] = _rows(values[key], key)
    if len(values["features_per_stage"]) != stages:
        raise ProstateXferError(
            f"The U-Net's n_stages is {stages}, but features_per_stage has {len(values['features_per_stage'])} entries."
        )
    return UNetPlan(**values)


def own_arguments(arguments: Mapping[str, Any], *, known: Sequence[str], what: str) -> dict[str, Any]:
    """The arguments a network of ours takes, out of those of a card or of nnU-Net's `arch_kwargs`.

    Raises:
        ProstateXferError: one is missing or unknown, or nnU-Net's layers are of another kind than ours.
    """
    kept = {key: value for key, value in arguments.items() if key not in (*_CONSTANTS, *_BY_DIMENSION)}
    missing = [key for key in known if key not in kept and key not in ("conv_bias", "deep_supervision")]
    unknown = [key for key in kept if key not in known]
    if missing or unknown:
        problem = f"lack '{missing[0]}'" if missing else f"have '{unknown[0]}', which means nothing here"
        raise ProstateXferError(f"The arguments of a {what} {problem}: they take {', '.join(known)}.")
    size = len(_rows(kept["strides"], "strides")[0])
    for key, allowed in _CONSTANTS.items():
        if key in arguments and arguments[key] not in allowed:
            raise ProstateXferError(f"A {what} with {key} {arguments[key]} is not supported: it must be {allowed[0]}.")
    for key, name in _BY_DIMENSION.items():
        if key in arguments and arguments[key] != name.format(size):
            raise ProstateXferError(f"A {what} with {key} {arguments[key]} is not supported: use {name.format(size)}.")
    return kept


def _rows(rows: Any, key: str) -> tuple[tuple[int, ...], ...]:
    if not isinstance(rows, list | tuple) or not rows or not all(isinstance(row, list | tuple) for row in rows):
        raise ProstateXferError(f"The U-Net's {key} need one list of 2 or 3 numbers per stage, not {rows}.")
    return tuple(tuple(row) for row in rows)
