# SPDX-License-Identifier: Apache-2.0
"""The encoder of nnU-Net's U-Nets: stages of convolutions or residual blocks, whose features the decoder joins."""

from collections.abc import Iterable

from torch import Tensor, nn

from ProstateXferLib.networks.unet_layers import ConvNorm, ResidualBlock, stacked_blocks
from ProstateXferLib.networks.unet_plan import UNetPlan


class UNetEncoder(nn.Module):
    """Names as in dynamic_network_architectures: `stem` where there is one, `stages.I`, finest first."""

    def __init__(self, stages: Iterable[nn.Module], *, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, ...) -> features of every stage, finest first."""
        features, skips = image if self.stem is None else self.stem(image), []
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        return skips


def encoder_stages(
    plan: UNetPlan, block: type[ConvNorm] | type[ResidualBlock], *, channels_in: int
) -> list[nn.Sequential]:
    """The plan's stages of such blocks; the first one takes `channels_in` channels."""
    stages = []
    for count, width, kernel, stride in zip(
        plan.blocks_per_stage, plan.features_per_stage, plan.kernel_sizes, plan.strides, strict=True
    ):
        stages.append(
            stacked_blocks(block, count, channels_in, width, kernel=kernel, stride=stride, bias=plan.conv_bias)
        )
        channels_in = width
    return stages
