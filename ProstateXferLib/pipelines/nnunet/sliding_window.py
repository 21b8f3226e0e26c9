# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's sliding window (specification 4.3): where windows lie, how they are mirrored, weighted and added up.

`ACCUMULATORS` names the two ways to add. "fp16" is nnU-Net's own to the bit: logits and weights in half precision.
"fp32" keeps what that loses: half precision rounds every sum to three digits, and in 3-D the Gaussian underflows near
a window's corners, where nnU-Net raises it to the smallest half above zero. Measured on the golden cases: logits differ
by up to 0.03 (2-D) and 1.1 (3-D, at corners of the volume), labels in 0 to 8 (2-D) and 5 to 18 (3-D) of 10,000 to
34,000 voxels.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.blend import background_logits
from ProstateXferLib.pipelines.blended_logits import blended_logits
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.mirroring import mirrorings
from ProstateXferLib.pipelines.tiling import STEP
from ProstateXferLib.pipelines.tissue import windows_with_tissue
from ProstateXferLib.pipelines.window_options import AS_MADE, WindowOptions
from ProstateXferLib.pipelines.windows import Windows
from ProstateXferLib.progress import Progress

ACCUMULATORS = {"fp32": torch.float32, "fp16": torch.float16}
_PEAK = 10
"""Of the Gaussian: as high as half precision leaves room for, so that its flanks keep some digits."""


@lru_cache(maxsize=4)
def gaussian(patch: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Weight (*patch) of a window's voxels, peak 10; what is 0 in this dtype becomes its smallest value above."""
    from scipy.ndimage import gaussian_filter

    bell = np.zeros(patch)
    bell[tuple(side // 2 for side in patch)] = 1
    bell = gaussian_filter(bell, [side / 8 for side in patch], mode="constant", cval=0)
    weight = torch.from_numpy(bell / (bell.max() / _PEAK)).to(dtype)
    weight[weight == 0] = weight[weight > 0].min()
    return weight


def nnunet_mirrorings(axes: Sequence[int], dimensions: int) -> list[tuple[int, ...]]:
    """Every subset of the axes of a patch, as axes of a tensor counted from its end; the empty one first."""
    return mirrorings([axis - dimensions for axis in axes])


def study_logits(
    network: nn.Module,
    channels: Tensor,
    patch: Sequence[int],
    *,
    classes: int,
    axes: Sequence[int],
    accumulate: str,
    dtype: torch.dtype,
    runner: AdaptiveRunner,
    progress: Progress,
    mirrored: list[Tensor] | None = None,
    overlapping: bool = False,
    options: WindowOptions = AS_MADE,
) -> Tensor:
    """One network's logits (K, z, y, x) of a prepared study, in the accumulator's dtype, on the CPU.

    Args:
        network: in evaluation mode, on the runner's device.
        channels: (C, z, y, x) float32, on the CPU.
        patch: sides of a window, two or three.
        classes: K.
        axes: of the patch, those to mirror along; () does not mirror.
        accumulate: "fp32" or "fp16".
        dtype: what autocast runs in; float32 switches it off.
        runner: runs batches of windows.
        progress: told which window is done.
        mirrored: filled with the logits of every mirroring alone, in the order of `nnunet_mirrorings`.
        overlapping: the channels are regions that may overlap, and none is the background's.
        options: how windows are laid.

    Raises:
        ProstateXferError: half precision overflowed.
    """
    windows = Windows.over(tuple(channels.shape[1:]), patch, options.step or STEP)
    if options.skip_empty:
        windows = windows_with_tissue(windows, channels)
    logits = blended_logits(
        network,
        channels,
        windows,
        weight=gaussian(tuple(patch), ACCUMULATORS[accumulate]).view(windows.window_zyx),
        background=background_logits([classes], overlapping=overlapping),
        subsets=nnunet_mirrorings(axes, len(patch)),
        dtype=dtype,
        runner=runner,
        progress=progress,
        mirrored=mirrored,
    )
    if logits.dtype == torch.float16 and bool(torch.isinf(logits).any()):
        raise ProstateXferError("The network's logits are too large for nnU-Net's fp16 sums: accumulate in fp32.")
    return logits
