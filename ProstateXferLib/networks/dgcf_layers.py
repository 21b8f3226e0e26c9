# SPDX-License-Identifier: Apache-2.0
"""The two building blocks of DGCF."""

from torch import Tensor, nn

from ProstateXferLib.networks.conv_norm import conv_norm, conv_norm_gelu_of_upsampled


class ConvNormGELU(nn.Module):
    """3 x 3 convolution without bias, batch norm, exact GELU (keys block.0, block.1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return conv_norm(x, self.block[0], self.block[1], gelu=True)

    def of_upsampled(self, low: Tensor, size: tuple[int, int]) -> Tensor:
        """The same of `low` (B, inputs, h, w) after bilinear upsampling to `size` (H, W)."""
        return conv_norm_gelu_of_upsampled(low, size, self.block[0], self.block[1])


class Residual(nn.Module):
    """x + (conv, norm, GELU, conv, norm)(x), nothing after the sum (keys block.0, 1, 3, 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        first, first_norm, _, second, second_norm = self.block
        return x + conv_norm(conv_norm(x, first, first_norm, gelu=True), second, second_norm)
