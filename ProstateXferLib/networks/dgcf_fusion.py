# SPDX-License-Identifier: Apache-2.0
"""How DGCF merges an image level with the DINOv3 map of the same size: four kinds that work in the reference."""

import torch
from torch import Tensor, nn

from ProstateXferLib.networks.conv_norm import conv_norm, upsample
from ProstateXferLib.networks.dgcf_layers import ConvNormGELU, Residual


class SumFusion(nn.Module):
    """Kind "none": image + DINOv3. The projections exist in the reference's files but are never run."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_dino = ConvNormGELU(width, width)
        self.proj_img = ConvNormGELU(width, width)

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Image level (B, width, H, W) and DINOv3 map (B, width, h, w), upsampled here -> (B, width, H, W)."""
        return image + upsample(guide, image.shape[-2:])

    def project(self, image: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Both after their own convolution, at the image's size."""
        return self.proj_img(image), self.proj_dino.of_upsampled(guide, tuple(image.shape[-2:]))


class CNNFusion(SumFusion):
    """Kind "cnn", the paper's: both projected, concatenated (image first), 1 x 1 convolution, residual block."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        mix = nn.Conv2d(2 * width, width, 1, bias=False)
        self.merge = nn.Sequential(mix, nn.BatchNorm2d(width), nn.GELU(), Residual(width))

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Image level (B, width, H, W) and DINOv3 map (B, width, h, w) -> (B, width, H, W)."""
        both = torch.cat(self.project(image, guide), dim=1)
        return self.merge[3](conv_norm(both, self.merge[0], self.merge[1], gelu=True))


class SEFusion(SumFusion):
    """Kind "se": squeeze-and-excitation gates per channel, first half for the image, second for DINOv3."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.fc = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(2 * width, width // 4, 1),
            nn.GELU(),
            nn.Conv2d(width // 4, 2 * width, 1),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Image level (B, width, H, W) and DINOv3 map (B, width, h, w) -> (B, width, H, W)."""
        image, guide = self.project(image, guide)
        gate_image, gate_guide = self.fc(torch.cat([image, guide], dim=1)).chunk(2, dim=1)
        return image * gate_image + guide * gate_guide


class GatedFusion(SumFusion):
    """Kind "gated": a gate per pixel and channel blends the two, then one more convolution."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gate = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.BatchNorm2d(width), nn.Sigmoid())
        self.out_proj = ConvNormGELU(width, width)

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Image level (B, width, H, W) and DINOv3 map (B, width, h, w) -> (B, width, H, W)."""
        image, guide = self.project(image, guide)
        gate = torch.sigmoid(conv_norm(torch.cat([image, guide], dim=1), self.gate[0], self.gate[1]))
        return self.out_proj(gate * image + (1 - gate) * guide)


FUSIONS = {"cnn": CNNFusion, "se": SEFusion, "gated": GatedFusion, "none": SumFusion}
"""Fusion kinds by the reference's names."""
