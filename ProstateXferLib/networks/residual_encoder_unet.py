# SPDX-License-Identifier: Apache-2.0
"""ResidualEncoderUNet: nnU-Net's "ResEnc" presets, 2-D and 3-D.

Source: "nnU-Net Revisited" (Isensee et al., MICCAI 2024) as built by dynamic_network_architectures; layers and
parameter names so that nnU-Net's weights load by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ProstateXferLib.networks.plain_conv_unet import check_input
from ProstateXferLib.networks.unet_decoder import UNetDecoder
from ProstateXferLib.networks.unet_layers import StackedConvs, StackedResidualBlocks, initialise
from ProstateXferLib.networks.unet_plan import UNetPlan, own_arguments, unet_plan

ARGUMENTS = (
    "input_channels",
    "num_classes",
    "n_stages",
    "features_per_stage",
    "kernel_sizes",
    "strides",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
    "conv_bias",
    "deep_supervision",
)


class ResidualEncoderUNet(nn.Module):
    """A stem and residual blocks down, transposed convolutions up.

    Args:
        n_blocks_per_stage: residual blocks per encoder stage, one number or one per stage.

    All other arguments are those of `PlainConvUNet`. The stem has the first stage's channels and kernel.

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
        n_blocks_per_stage: int | Sequence[int],
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
                "n_blocks_per_stage": n_blocks_per_stage,
                "n_conv_per_stage_decoder": n_conv_per_stage_decoder,
                "conv_bias": conv_bias,
            },
            blocks_key="n_blocks_per_stage",
        )
        self.deep_supervision = deep_supervision
        self.encoder = _ResidualEncoder(self.plan)
        self.decoder = UNetDecoder(self.plan)
        initialise(self)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "ResidualEncoderUNet":
        """Build from a card's arguments, or from nnU-Net's `arch_kwargs` with input_channels and num_classes added.

        Raises:
            ProstateXferError: an argument is missing or unknown, or the layers are of another kind.
        """
        return cls(**own_arguments(arguments, known=ARGUMENTS, what="residual_encoder_unet"))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """As `PlainConvUNet.forward`."""
        check_input(image, self.plan)
        every_scale = self.deep_supervision and self.training
        outputs = self.decoder(self.encoder(image), every_scale=every_scale)
        return outputs if every_scale else outputs[0]


class _ResidualEncoder(nn.Module):
    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        below, one = plan.features_per_stage[0], (1,) * plan.dimensions
        self.stem = StackedConvs(
            1, plan.input_channels, below, kernel=plan.kernel_sizes[0], stride=one, bias=plan.conv_bias
        )
        stages = []
        for stage, width in enumerate(plan.features_per_stage):
            kernel, stride = plan.kernel_sizes[stage], plan.strides[stage]
            count = plan.blocks_per_stage[stage]
            stages.append(StackedResidualBlocks(count, below, width, kernel=kernel, stride=stride, bias=plan.conv_bias))
            below = width
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of every stage, finest first."""
        features, skips = self.stem(image), []
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        return skips
