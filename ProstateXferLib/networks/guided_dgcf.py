# SPDX-License-Identifier: Apache-2.0
"""DGCF with its DINOv3 beside it: features are computed on the fly instead of being read from disk."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.mr_dinov3 import tapped_blocks

GENERATOR_PREFIX = "generator."
LEVELS = 4


class GuidedDGCF(nn.Module):
    """Generator and frozen encoder as one network, slice in, slice out.

    Args:
        generator: the DGCF.
        encoder: the DINOv3 whose token width the generator was trained for.
        encoder_range: the range that [-1, 1] is mapped to before the encoder; (0, 2) is the reference's MR quirk.
        blocks: 0-based encoder blocks of the four levels, shallow first.
    """

    def __init__(
        self,
        generator: DGCF,
        encoder: DINOv3,
        *,
        encoder_range: tuple[float, float] = (-1.0, 1.0),
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if generator.feature_width != encoder.width:
            raise ProstateXferError(
                f"This DGCF was trained with DINOv3 tokens of width {generator.feature_width}, the encoder "
                f"given has width {encoder.width}: choose the encoder it was trained with."
            )
        self.generator, self.dino_encoder = generator, encoder
        self.encoder_range = encoder_range
        self.blocks = tapped_blocks(encoder.depth, LEVELS, blocks)
        if len(self.blocks) != LEVELS:
            raise ProstateXferError(
                f"A DGCF needs {LEVELS} encoder blocks, not {len(self.blocks)}: name one per level."
            )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) in [-1, 1] -> (B, 1, H, W) in (-1, 1)."""
        return self.generator(image, self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) in [-1, 1] -> (B, 4, N, C) normed patch tokens."""
        low, high = self.encoder_range
        seen = (image + 1) * ((high - low) / 2) + low
        return torch.stack(self.dino_encoder.intermediate(seen.expand(-1, 3, -1, -1), self.blocks), dim=1)
