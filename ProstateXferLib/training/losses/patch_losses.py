# SPDX-License-Identifier: Apache-2.0
"""Losses of the supervised stages; Dice + cross-entropy comes from MONAI."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.regions import tokens_near

FAR_TOKENS = 0.3
"""Share of the tokens away from the gland that the gland head decodes in a training step."""
EMPTY_TOKENS = 0.6
"""The same in slices without gland: the bladder above it is what a gland head is most easily taken in by."""


def segmentation_loss(seed: int) -> Callable[[MRDINOv3, dict[str, Tensor]], Tensor]:
    """Dice (no background, over the whole batch, as nnU-Net's 2-D plans) + cross-entropy, for a gland and a DIL head.

    A token's logits depend on that token alone, so a step decodes only what it learns from: the gland head the tokens
    in and next to the gland and some of the others, the DIL head those in and next to the gland, where alone it is
    decoded in inference too. It halves the cost of a step.
    """
    from monai.losses import DiceCELoss

    dice_ce = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    generator = torch.Generator().manual_seed(seed)

    def loss(network: MRDINOv3, batch: dict[str, Tensor]) -> Tensor:
        tokens = network.encode(batch["image"])
        near = tokens_near(batch["gland"] > 0, PATCH)
        share = torch.where(near.any(1, keepdim=True), FAR_TOKENS, EMPTY_TOKENS)
        far = torch.rand(near.shape, generator=generator).to(near.device) < share
        total = tokens.new_zeros((), dtype=torch.float32)
        for head, chosen in (("gland", near | far), ("dil", near)):
            if bool(chosen.any()):
                logits = network.heads[head].decode_tokens(tokens[chosen])
                total = total + dice_ce(logits.float(), _patches(batch[head])[chosen][:, None])
        return total

    return loss


def l1_loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean absolute error over all pixels of the [-1, 1] slices (DGCF, unmasked)."""
    return (network(batch["image"]).float() - batch["target"]).abs().mean()


def _patches(labels: Tensor) -> Tensor:
    """Labels (B, H, W) -> (B, N, 16, 16), patches in row-major token order."""
    columns = F.unfold(labels[:, None].float(), PATCH, stride=PATCH)  # (B, 256, N)
    return columns.transpose(1, 2).reshape(len(labels), -1, PATCH, PATCH).long()
