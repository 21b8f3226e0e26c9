# SPDX-License-Identifier: Apache-2.0
"""How many stages a U-Net gets, and where it halves: nnU-Net's rule."""

import math
from collections.abc import Sequence
from typing import Any

from ProstateXferLib.errors import ProstateXferError

_SMALLEST_SIDE = 4
"""Feature maps are never halved below this many pixels along an axis."""
_MAX_FEATURES = {2: 512, 3: 320}
_RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6)
"""Blocks per stage of nnU-Net's ResEnc presets; they know no more than 13 stages."""


def planned_unet(
    patch_size: Sequence[int],
    spacing: Sequence[float],
    *,
    channels: int,
    classes: int,
    residual: bool = False,
    base_features: int = 32,
    max_features: int | None = None,
) -> dict[str, Any]:
    """Arguments of a `PlainConvUNet` or `ResidualEncoderUNet` for patches of this size and spacing.

    nnU-Net's rule (Isensee et al. 2021, supplementary note 2; `network_topology.py` of nnunetv2 2.8): as long as some
    axis has 8 pixels or more, one more stage is added. It halves those of these axes whose spacing is less than twice
    the finest one's; a single such axis only if it has 12 pixels or more. An axis has kernel 1 until its spacing is
    less than twice the finest one's of all, and 3 from then on; the last stage has 3 everywhere. Features double from
    `base_features` up to 512 (2-D) or 320 (3-D).

    Args:
        patch_size: pixels, (y, x) or (z, y, x).
        spacing: mm, in the same order.
        channels, classes: channels of the image and of the logits.
        residual: for a `ResidualEncoderUNet` (blocks 1, 3, 4, 6, 6, ..., one convolution per decoder stage) instead of
            two convolutions everywhere.
        base_features, max_features: channels of the first stage, and the most of any (None: nnU-Net's).

    Raises:
        ProstateXferError: a patch that cannot be halved once or is no multiple of the strides.
    """
    if len(patch_size) != len(spacing) or len(patch_size) not in _MAX_FEATURES:
        raise ProstateXferError("A U-Net is planned for a patch of 2 or 3 axes and as many spacings.")
    strides, kernels = _topology(list(patch_size), list(spacing))
    stages = len(strides)
    _require_fit(patch_size, [math.prod(axis) for axis in zip(*strides, strict=True)], stages)
    largest = max_features or _MAX_FEATURES[len(patch_size)]
    arguments = {
        "input_channels": channels,
        "num_classes": classes,
        "n_stages": stages,
        "features_per_stage": [min(largest, base_features * 2**stage) for stage in range(stages)],
        "kernel_sizes": kernels,
        "strides": strides,
        "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
        "conv_bias": True,
        "deep_supervision": True,
    }
    if not residual:
        return arguments | {"n_conv_per_stage": [2] * stages}
    if stages > len(_RESIDUAL_BLOCKS):
        raise ProstateXferError(f"A patch of {list(patch_size)} pixels needs too many stages: take a smaller one.")
    return arguments | {"n_blocks_per_stage": list(_RESIDUAL_BLOCKS[:stages])}


def _require_fit(patch_size: Sequence[int], multiple: Sequence[int], stages: int) -> None:
    if stages > 1 and not any(side % step for side, step in zip(patch_size, multiple, strict=True)):
        return
    fitting = [math.ceil(side / step) * step for side, step in zip(patch_size, multiple, strict=True)]
    advice = f"it must be a multiple of {multiple}, e.g. {fitting}" if stages > 1 else "take a larger one"
    raise ProstateXferError(f"A patch of {list(patch_size)} pixels does not fit a U-Net: {advice}.")


def _topology(size: list[int], spacing: list[float]) -> tuple[list[list[int]], list[list[int]]]:
    """Strides and kernels of every stage; the lists given are used up.

    Where an axis starts with fewer than 8 pixels nnU-Net's own code confuses the axes' spacings in the rule for
    kernels (or stops with an error); here the rule is applied to each axis's own.
    """
    axes = range(len(size))
    strides, kernels, kernel = [[1] * len(size)], [], [1] * len(size)
    while large := [axis for axis in axes if size[axis] >= 2 * _SMALLEST_SIDE]:
        finest = min(spacing[axis] for axis in large)
        halved = [axis for axis in large if spacing[axis] / finest < 2]
        if len(halved) == 1 and size[halved[0]] < 3 * _SMALLEST_SIDE:
            break
        finest_of_all = min(spacing)
        kernel = [3 if side == 3 or spacing[axis] / finest_of_all < 2 else 1 for axis, side in enumerate(kernel)]
        for axis in halved:
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
        strides.append([2 if axis in halved else 1 for axis in axes])
        kernels.append(kernel)
    return strides, [*kernels, [3] * len(size)]
