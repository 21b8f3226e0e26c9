# SPDX-License-Identifier: Apache-2.0
"""ResidualEncoderUNet: nnU-Net's "ResEnc" presets, 2-D and 3-D.

Source: "nnU-Net Revisited" (Isensee et al., MICCAI 2024) as built by dynamic_network_architectures; layers and
parameter names so that nnU-Net's weights load by name.
"""

from ProstateXferLib.networks.unet import UNet
from ProstateXferLib.networks.unet_encoder import UNetEncoder, encoder_stages
from ProstateXferLib.networks.unet_layers import ConvNorm, ResidualBlock, stacked_blocks
from ProstateXferLib.networks.unet_plan import UNetPlan


class ResidualEncoderUNet(UNet):
    """A stem and residual blocks down, transposed convolutions up."""

    architecture = "residual_encoder_unet"
    blocks_argument = "n_blocks_per_stage"

    @staticmethod
    def build_encoder(plan: UNetPlan) -> UNetEncoder:
        """A stem of the first stage's channels and kernel, then stages of residual blocks."""
        width, kernel, one = plan.features_per_stage[0], plan.kernel_sizes[0], (1,) * plan.dimensions
        stem = stacked_blocks(ConvNorm, 1, plan.input_channels, width, kernel=kernel, stride=one, bias=plan.conv_bias)
        return UNetEncoder(encoder_stages(plan, ResidualBlock, channels_in=width), stem=stem)
