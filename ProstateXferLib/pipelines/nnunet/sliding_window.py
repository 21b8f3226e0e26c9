# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's sliding window (specification 4.3): where windows lie, how they are mirrored, weighted and added up.

`ACCUMULATORS` names the two ways to add. "fp16" is nnU-Net's own to the bit: logits and weights in half precision.
"fp32" keeps what that loses: half precision rounds every sum to three digits, and in 3-D the Gaussian underflows near
a window's corners, where nnU-Net raises it to the smallest half above zero. Measured on the golden cases: logits differ
by up to 0.03 (2-D) and 1.1 (3-D, at corners of the volume), labels in 0 to 8 (2-D) and 5 to 18 (3-D) of 10,000 to
34,000 voxels.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.windows import Windows
from ProstateXferLib.progress import Progress

ACCUMULATORS = {"fp32": torch.float32, "fp16": torch.float16}
STEP = 0.5
"""Windows advance by half their side at most."""
_PEAK = 10
"""Of the Gaussian: as high as half precision leaves room for, so that its flanks keep some digits."""


def window_starts(size: int, side: int) -> list[int]:
    """First index of every window along one axis.

    The step is divided first and multiplied afterwards, as nnU-Net does: the other order rounds some halves otherwise.
    """
    count = math.ceil((size - side) / (side * STEP)) + 1
    return [int(np.round((size - side) / (count - 1) * index)) for index in range(count)] if count > 1 else [0]


def nnunet_windows(shape: tuple[int, int, int], patch: Sequence[int]) -> Windows:
    """The windows of a study; a 2-D network's lie in every plane of the first axis."""
    window = (1, *patch) if len(patch) == 2 else tuple(patch)
    padded = tuple(max(n, side) for n, side in zip(shape, window, strict=True))
    before = tuple((p - n) // 2 for p, n in zip(padded, shape, strict=True))
    starts = [window_starts(p, side) for p, side in zip(padded, window, strict=True)]
    if len(patch) == 2:
        starts[0] = list(range(padded[0]))
    return Windows(tuple(shape), window, before, padded, tuple(product(*starts)), False)


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


def mirrorings(axes: Sequence[int], dimensions: int) -> list[tuple[int, ...]]:
    """Every subset of the axes of a patch, as axes of a tensor counted from its end; the empty one first."""
    counted = [axis - dimensions for axis in axes]
    return [subset for count in range(len(counted) + 1) for subset in combinations(counted, count)]


def mirrored_logits(
    network: nn.Module, windows: Tensor, subsets: Sequence[tuple[int, ...]], dtype: torch.dtype
) -> Tensor:
    """Windows (B, C, ...) -> logits (B, K, ...), fp32: the mean over the mirrorings, each mirrored back."""
    total = None
    for axes in subsets:
        with torch.autocast(windows.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(windows.flip(axes) if axes else windows)
        logits = logits.float().flip(axes) if axes else logits.float()
        total = logits if total is None else total.add_(logits)
    return total.div_(len(subsets)) if len(subsets) > 1 else total


class Sum:
    """Windows' logits, weighted and added up.

    Args:
        windows: how the study was cut.
        classes: channels of the logits.
        accumulate: "fp32" or "fp16".
    """

    def __init__(self, windows: Windows, classes: int, *, accumulate: str) -> None:
        dtype = ACCUMULATORS[accumulate]
        self._windows = windows
        flat = windows.window_zyx[0] == 1
        self._weight = gaussian(windows.window_zyx[1:] if flat else windows.window_zyx, dtype).view(windows.window_zyx)
        self._total = torch.zeros(classes, *windows.padded_zyx, dtype=dtype)
        self._norm = torch.zeros(windows.padded_zyx, dtype=dtype)

    def add(self, start: tuple[int, int, int], logits: Tensor) -> None:
        """One window's logits (K, *window_zyx), fp32, on the CPU."""
        place = tuple(slice(first, first + side) for first, side in zip(start, self._windows.window_zyx, strict=True))
        self._total[(slice(None), *place)] += logits * self._weight
        self._norm[place] += self._weight

    def result(self) -> Tensor:
        """Logits (K, *shape_zyx) in the accumulator's dtype, the padding cut away; to be asked for once.

        Raises:
            ProstateXferError: half precision overflowed.
        """
        inner = tuple(slice(b, b + n) for b, n in zip(self._windows.before_zyx, self._windows.shape_zyx, strict=True))
        logits = self._total.div_(self._norm)[(slice(None), *inner)]
        if logits.dtype == torch.float16 and bool(torch.isinf(logits).any()):
            raise ProstateXferError("The network's logits are too large for nnU-Net's fp16 sums: accumulate in fp32.")
        return logits


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
    """
    windows, planar = nnunet_windows(tuple(channels.shape[1:]), patch), len(patch) == 2
    padded, total, done = windows.padded(channels), Sum(windows, classes, accumulate=accumulate), 0
    subsets = mirrorings(axes, len(patch))

    def run(batch: Tensor) -> Tensor:
        return mirrored_logits(network, batch[:, :, 0] if planar else batch, subsets, dtype)

    for starts in windows.in_batches(runner.batch_size):
        results = torch.cat([part.cpu() for part in runner.run(run, windows.cut(padded, starts))])
        for start, logits in zip(starts, results, strict=True):
            total.add(start, logits[:, None] if planar else logits)
        done += len(starts)
        progress.update("segment", done / len(windows.starts), f"window {done} of {len(windows.starts)}")
    return total.result()
