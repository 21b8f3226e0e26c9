# SPDX-License-Identifier: Apache-2.0
"""Which tokens are worth decoding: those in the body for whole-image heads, those near the gland for lesion heads."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.networks.dinov3 import PATCH

_BODY_LEVEL = 0.08
"""Share of the way from the darkest to the brightest percentile of the volume above which a pixel counts as tissue. Low
on purpose: with an endorectal coil muscle far away is dark, and a token too many costs little."""
_BODY_SHARE = 0.02
"""Share of a patch's pixels that must be tissue."""


def body_threshold(slices: Tensor) -> float:
    """Network-space intensity above which a pixel of this volume (z, H, W) may be tissue."""
    values = slices.flatten()
    if len(values) > 1_000_000:  # quantile's limit; a regular subset of so many voxels tells the same
        values = values[:: len(values) // 1_000_000 + 1]
    low, high = torch.quantile(values.float(), torch.tensor([0.01, 0.99])).tolist()
    return low + _BODY_LEVEL * (high - low)


def body_tokens(tiles: Tensor, threshold: float) -> Tensor:
    """Tokens of tiles (T, 1, h, w) that touch tissue or border on one that does: (T, N) bool, row-major."""
    share = F.avg_pool2d((tiles > threshold).float(), PATCH)
    return F.max_pool2d((share > _BODY_SHARE).float(), 3, stride=1, padding=1).flatten(1) > 0


def tokens_near(mask: Tensor, margin_px: float) -> Tensor:
    """Tokens of masks (T, h, w) bool that hold a pixel within `margin_px` of the mask: (T, N) bool."""
    return F.max_pool2d(dilate(mask, margin_px)[:, None].float(), PATCH).flatten(1) > 0


def dilate(mask: Tensor, margin_px: float) -> Tensor:
    """Masks (T, h, w) grown by a square of `margin_px` (rounded up) in-plane."""
    reach = math.ceil(margin_px)
    if reach <= 0:
        return mask
    side, grown = 2 * reach + 1, mask[:, None].float()
    grown = F.max_pool2d(grown, (1, side), stride=1, padding=(0, reach))  # one axis after the other: side, not side^2
    return F.max_pool2d(grown, (side, 1), stride=1, padding=(reach, 0))[:, 0] > 0
