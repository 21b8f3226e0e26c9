# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a slice a patch-decode head learns from, and what they show.

A token's logits depend on that token alone, so a training step may decode only the tokens it learns most from, as
inference decodes a lesion head only near the gland. With a small encoder it halves the cost of a step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.pipelines.regions import tokens_near


@dataclass(frozen=True)
class TokenShares:
    """Shares of the tokens away from a head's structure that it decodes in a step.

    Attributes:
        far: in slices that show the structure. MedDINOv3 decodes all; 0.3 is what the shipped model was trained with.
        empty: in slices that do not; shipped: 0.6, because the bladder above it is what a gland head is most easily
            taken in by.
    """

    far: float = 1.0
    empty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.far <= 1 or not 0 <= self.empty <= 1:
            raise ProstateXferError(f"The shares of tokens {self.far} and {self.empty} must be from 0 to 1.")

    @property
    def all(self) -> bool:
        """Whether every token is decoded."""
        return self.far == self.empty == 1


def tokens_around(mask: Tensor) -> Tensor:
    """Tokens in and next to a mask: (B, H, W) bool -> (B, N) bool, those with a pixel less than a patch away."""
    return tokens_near(mask, PATCH)


def learned_tokens(mask: Tensor, shares: TokenShares, draw: Tensor) -> Tensor:
    """Tokens (B, N) bool in and next to the mask, and a share of the others.

    Args:
        mask: (B, H, W) bool, the structure.
        shares: see `TokenShares`.
        draw: (B, N) uniform random numbers from [0, 1).
    """
    near = tokens_around(mask)
    share = torch.where(near.any(1, keepdim=True), shares.far, shares.empty)
    return near | (draw < share)


def label_patches(labels: Tensor) -> Tensor:
    """Labels (B, H, W) -> (B, N, 16, 16), patches in row-major token order."""
    columns = F.unfold(labels[:, None].float(), PATCH, stride=PATCH)  # (B, 256, N)
    return columns.transpose(1, 2).reshape(len(labels), -1, PATCH, PATCH).long()
