# SPDX-License-Identifier: Apache-2.0
"""Where a prepared study holds tissue, roughly and rather too much than too little."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.pipelines.regions import body_threshold
from ProstateXferLib.pipelines.windows import Windows

_BLOCK = 8
"""Pixels. The mean of a square of so many is judged, because single pixels of air are noisy."""


def tissue(channels: Tensor) -> Tensor:
    """Channels (C, z, y, x) -> (z, y, x) bool: blocks of a slice that are brighter than air in at least one channel."""
    found = torch.zeros(channels.shape[1:], dtype=torch.bool)
    for channel in channels:
        means = F.avg_pool2d(channel[:, None].float(), _BLOCK, ceil_mode=True)[:, 0]
        bright = means > body_threshold(channel)
        wide = bright.repeat_interleave(_BLOCK, 1).repeat_interleave(_BLOCK, 2)
        found |= wide[:, : channel.shape[1], : channel.shape[2]]
    return found


def windows_with_tissue(windows: Windows, channels: Tensor) -> Windows:
    """Those windows of a study (C, z, y, x) alone that hold tissue."""
    return windows.holding(tissue(channels))
