# SPDX-License-Identifier: Apache-2.0
"""PlainConvUNet: nnU-Net's default network, 2-D and 3-D.

Source: nnU-Net (Isensee et al., Nature Methods 2021) as built by dynamic_network_architectures; layers, defaults and
parameter names so that nnU-Net's weights load by name (specification 4.5).
"""

from torch import nn

from ProstateXferLib.networks.unet import UNet
from ProstateXferLib.networks.unet_encoder import UNetEncoder, encoder_stages
from ProstateXferLib.networks.unet_layers import ConvNorm
from ProstateXferLib.networks.unet_plan import UNetPlan


class PlainConvUNet(UNet):
    """Strided convolutions down, transposed convolutions up."""

    architecture = "plain_conv_unet"
    blocks_argument = "n_conv_per_stage"

    @staticmethod
    def build_encoder(plan: UNetPlan) -> UNetEncoder:
        """Stages of convolutions alone."""
        stages = encoder_stages(plan, ConvNorm, channels_in=plan.input_channels)
        # Each in a list of one, as in nnU-Net, where pooling may stand beside.
        return UNetEncoder(nn.Sequential(stage) for stage in stages)
