# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation of dense networks: the mean of the logits over mirrored windows."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

_AXES = {-1: "x", -2: "y", -3: "z"}


def mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every subset of the axes (of a tensor, counted from its end), the empty one first."""
    return [subset for count in range(len(axes) + 1) for subset in combinations(axes, count)]


def mirroring_name(axes: Sequence[int]) -> str:
    """For people."""
    return f"mirrored along {', '.join(_AXES[axis] for axis in axes)}" if axes else "as it is"


def mirrored_logits(
    network: nn.Module,
    windows: Tensor,
    subsets: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    *,
    separate: bool = False,
) -> Tensor:
    """Windows (B, C, ...) -> logits (B, 1, K, ...), fp32: the mean over the mirrorings, each mirrored back.

    Args:
        network: in evaluation mode.
        windows: on its device.
        subsets: the mirrorings.
        dtype: what autocast runs in; float32 switches it off.
        separate: (B, 1 + mirrorings, K, ...) instead: the mean, then every mirroring alone.
    """
    total, parts = None, []
    for axes in subsets:
        with torch.autocast(windows.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(windows.flip(axes) if axes else windows)
        logits = logits.float().flip(axes) if axes else logits.float()
        if separate:
            parts.append(logits.clone())  # the first becomes the sum
        total = logits if total is None else total.add_(logits)
    mean = total.div_(len(subsets)) if len(subsets) > 1 else total
    return torch.stack([mean, *parts], dim=1) if separate else mean[:, None]
