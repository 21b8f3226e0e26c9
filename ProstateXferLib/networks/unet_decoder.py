# SPDX-License-Identifier: Apache-2.0
"""The decoder of nnU-Net's U-Nets: transposed convolution, skip connection, convolutions, logits at every scale."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ProstateXferLib.networks.unet_layers import ConvNorm, convolution, stacked_blocks, transposed_convolution
from ProstateXferLib.networks.unet_plan import UNetPlan


class UNetDecoder(nn.Module):
    """Names as in dynamic_network_architectures: `transpconvs.I`, `stages.I.convs.J`, `seg_layers.I`, deepest first.

    The logit layers of the coarser scales exist without deep supervision, too, as in files that nnU-Net writes.
    """

    def __init__(self, plan: UNetPlan) -> None:
        super().__init__()
        upwards, logits = transposed_convolution(plan.dimensions), convolution(plan.dimensions)
        one = (1,) * plan.dimensions
        self.transpconvs, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for count, level in zip(
            plan.n_conv_per_stage_decoder, reversed(range(len(plan.features_per_stage) - 1)), strict=True
        ):
            below, width, stride = (
                plan.features_per_stage[level + 1],
                plan.features_per_stage[level],
                plan.strides[level + 1],
            )
            self.transpconvs.append(upwards(below, width, stride, stride, bias=plan.conv_bias))
            kernel = plan.kernel_sizes[level]
            self.stages.append(
                stacked_blocks(ConvNorm, count, 2 * width, width, kernel=kernel, stride=one, bias=plan.conv_bias)
            )
            self.seg_layers.append(logits(width, plan.num_classes, 1, bias=True))

    def forward(self, skips: Sequence[Tensor], *, every_scale: bool) -> list[Tensor]:
        """Features of the encoder's stages, finest first -> logits, finest first; the finest alone by default."""
        features, outputs = skips[-1], []
        for index, skip in enumerate(reversed(skips[:-1])):
            features = self.stages[index](torch.cat([self.transpconvs[index](features), skip], dim=1))
            if every_scale or index == len(self.stages) - 1:
                outputs.append(self.seg_layers[index](features))
        return outputs[::-1]
