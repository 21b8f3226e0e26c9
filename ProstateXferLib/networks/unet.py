# SPDX-License-Identifier: Apache-2.0
"""What nnU-Net's `PlainConvUNet` and `ResidualEncoderUNet` have in common: all but the encoder and two names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.unet_decoder import UNetDecoder
from ProstateXferLib.networks.unet_encoder import UNetEncoder
from ProstateXferLib.networks.unet_layers import initialise
from ProstateXferLib.networks.unet_plan import UNetPlan, own_arguments, unet_plan

_BEFORE_BLOCKS = ("input_channels", "num_classes", "n_stages", "features_per_stage", "kernel_sizes", "strides")
_AFTER_BLOCKS = ("n_conv_per_stage_decoder", "conv_bias", "deep_supervision")


class UNet(nn.Module, ABC):
    """An encoder, and transposed convolutions up to the logits.

    Args:
        plan: the sizes.
        deep_supervision: while training, give the logits of every scale.
    """

    architecture: ClassVar[str]
    """The kind's name in model cards."""
    blocks_argument: ClassVar[str]
    """What nnU-Net calls the plan's `blocks_per_stage` in this kind."""

    def __init__(self, plan: UNetPlan, *, deep_supervision: bool = False) -> None:
        super().__init__()
        self.plan = plan
        self.deep_supervision = deep_supervision
        self.encoder = self.build_encoder(plan)
        self.decoder = UNetDecoder(plan)
        initialise(self)

    @staticmethod
    @abstractmethod
    def build_encoder(plan: UNetPlan) -> UNetEncoder:
        """The encoder of this kind."""

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Build from a card's arguments, or from nnU-Net's `arch_kwargs` with input_channels and num_classes added.

        They are `UNetPlan`'s attributes as lists, `blocks_per_stage` under the name that `blocks_argument` tells, and
        `n_stages`. One number of features, blocks or convolutions stands for every stage. `conv_bias` (True) and
        `deep_supervision` (False) may be left out.

        Raises:
            ProstateXferError: an argument is missing or unknown, sizes do not fit each other, or the layers are of
                another kind.
        """
        known = (*_BEFORE_BLOCKS, cls.blocks_argument, *_AFTER_BLOCKS)
        own = {"conv_bias": True, **own_arguments(arguments, known=known, what=cls.architecture)}
        deep_supervision = own.pop("deep_supervision", False)
        return cls(unet_plan(own, blocks_key=cls.blocks_argument), deep_supervision=deep_supervision)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """(B, C, H, W) or (B, C, D, H, W) -> logits (B, K, ...) of the same size.

        With deep supervision, and only while training: a list, full resolution first, of the logits of every scale.
        """
        _check_input(image, self.plan)
        every_scale = self.deep_supervision and self.training
        outputs = self.decoder(self.encoder(image), every_scale=every_scale)
        return outputs if every_scale else outputs[0]


def _check_input(image: Tensor, plan: UNetPlan) -> None:
    """Refuse a tensor that a U-Net of this plan cannot take, before it fails somewhere inside."""
    sides = tuple(image.shape[2:])
    right = len(sides) == plan.dimensions and image.shape[1] == plan.input_channels
    if not right or any(side % step for side, step in zip(sides, plan.multiple, strict=True)):
        raise ProstateXferError(
            f"This U-Net takes images of {plan.input_channels} channel(s) and {plan.dimensions} axes whose sides are "
            f"multiples of {plan.multiple}; it was given a tensor of shape {tuple(image.shape)}."
        )
