# SPDX-License-Identifier: Apache-2.0
"""PlainConvUNet: nnU-Net's default network, 2-D and 3-D.

Source: nnU-Net (Isensee et al., Nature Methods 2021) as built by dynamic_network_architectures; layers, defaults and
parameter names so that nnU-Net's weights load by name (specification 4.5).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.unet_decoder import UNetDecoder
from ProstateXferLib.networks.unet_layers import StackedConvs, initialise
from ProstateXferLib.networks.unet_plan import UNetPlan, own_arguments, unet_plan

ARGUMENTS = (
    "input_channels",
    "num_classes",
    "n_stages",
    "features_per_stage",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_conv_per_stage_decoder",
    "conv_bias",
    "deep_supervision",
)


class PlainConvUNet(nn.Module):
    """Strided convolutions down, transposed convolutions up.

    Args:
        input_channels, num_classes: channels of the image and of the logits.
        n_stages: stages of the encoder, the first at full resolution.
        features_per_stage: channels of each stage.
        kernel_sizes, strides: per stage one list over the axes, (y, x) or (z, y, x); they say whether it is 2-D or 3-D.
        n_conv_per_stage: convolutions per encoder stage, one number or one per stage.
        n_conv_per_stage_decoder: likewise for the decoder, deepest first.
        conv_bias: whether convolutions have a bias.
        deep_supervision: while training, give the logits of every scale.

    Raises:
        ProstateXferError: sizes that do not fit each other.
    """

    def __init__(
        self,
        *,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        n_conv_per_stage: int | Sequence[int],
        n_conv_per_stage_decoder: int | Sequence[int],
        conv_bias: bool = True,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        self.plan = unet_plan(
            {
                "input_channels": input_channels,
                "num_classes": num_classes,
                "n_stages": n_stages,
                "features_per_stage": features_per_stage,
                "kernel_sizes": kernel_sizes,
                "strides": strides,
                "n_conv_per_stage": n_conv_per_stage,
                "n_conv_per_stage_decoder": n_conv_per_stage_decoder,
                "conv_bias": conv_bias,
            },
            blocks_key="n_conv_per_stage",
        )
        self.deep_supervision = deep_supervision
        self.encoder = _PlainEncoder(self.plan)
        self.decoder = UNetDecoder(self.plan)
        initialise(self)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "PlainConvUNet":
        """Build from a card's arguments, or from nnU-Net's `arch_kwargs` with input_channels and num_classes added.

        Raises:
            ProstateXferError: an argument is missing or unknown, or the layers are of another kind.
        """
        return cls(**own_arguments(arguments, known=ARGUMENTS, what="plain_conv_unet"))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """(B, C, H, W) or (B, C, D, H, W) -> logits (B, K, ...) of the same size.

        With deep supervision, and only while training: a list, full resolution first, of the logits of every scale.
        """
        check_input(image, self.plan)
        every_scale = self.deep_supervision and self.training
        outputs = self.decoder(self.encoder(image), every_scale=every_scale)
        return outputs if every_scale else outputs[0]


class _PlainEncoder(nn.Module):
    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        stages, below = [], plan.input_channels
        for stage, width in enumerate(plan.features_per_stage):
            kernel, stride = plan.kernel_sizes[stage], plan.strides[stage]
            block = StackedConvs(
                plan.blocks_per_stage[stage], below, width, kernel=kernel, stride=stride, bias=plan.conv_bias
            )
            stages.append(nn.Sequential(block))  # a list of one, as in nnU-Net, where pooling may stand beside
            below = width
        self.stages = nn.Sequential(*stages)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Features of every stage, finest first."""
        skips = []
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        return skips


def check_input(image: Tensor, plan: UNetPlan) -> None:
    """Refuse a tensor that a U-Net of this plan cannot take, before it fails somewhere inside."""
    sides = tuple(image.shape[2:])
    right = len(sides) == plan.dimensions and image.shape[1] == plan.input_channels
    if not right or any(side % step for side, step in zip(sides, plan.multiple, strict=True)):
        raise ProstateXferError(
            f"This U-Net takes images of {plan.input_channels} channel(s) and {plan.dimensions} axes whose sides are "
            f"multiples of {plan.multiple}; it was given a tensor of shape {tuple(image.shape)}."
        )
