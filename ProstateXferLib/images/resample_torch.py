# SPDX-License-Identifier: Apache-2.0
"""Resampling of network inputs and outputs where they are: on the device, all channels at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    import torch


def resample_channels(
    channels: torch.Tensor, shape_zyx: tuple[int, int, int], *, interpolation: str = "linear"
) -> torch.Tensor:
    """Channels (C, z, y, x) on the grid of that shape which `resampled_grid` gives: same outer edges.

    The same numbers as `resample_to_grid`, border included, without the way through images; floating point only.
    """
    from torch.nn import functional

    # "nearest" of torch takes the wrong neighbour; "nearest-exact" works with voxel centres, as SimpleITK does.
    modes = {"linear": {"mode": "trilinear", "align_corners": False}, "nearest": {"mode": "nearest-exact"}}
    if interpolation not in modes:
        raise ProstateXferError(f"Interpolation '{interpolation}' is unknown; use one of {', '.join(modes)}.")
    if tuple(channels.shape[1:]) == tuple(shape_zyx):
        return channels
    return functional.interpolate(channels[None], size=tuple(shape_zyx), **modes[interpolation])[0]
