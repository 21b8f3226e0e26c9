# SPDX-License-Identifier: Apache-2.0
"""A dense network's logits on a whole prepared study: window by window, mirrored where asked for, blended."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from ProstateXferLib.pipelines.blend import Blend
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.mirroring import mirrored_logits
from ProstateXferLib.pipelines.windows import Windows
from ProstateXferLib.progress import Progress


def blended_logits(
    network: nn.Module,
    channels: Tensor,
    windows: Windows,
    *,
    weight: Tensor,
    background: Tensor,
    subsets: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    runner: AdaptiveRunner,
    progress: Progress,
    mirrored: list[Tensor] | None = None,
) -> Tensor:
    """Logits (K, z, y, x) in the weight's dtype, on the CPU.

    Args:
        network: in evaluation mode, on the runner's device; takes (B, C, y, x) of a 2-D network, else (B, C, z, y, x).
        channels: (C, z, y, x) float32, prepared, on the CPU.
        windows: how the study is cut.
        weight: (*window_zyx), of a window's voxels.
        background: (K,), logits of the voxels that no window holds.
        subsets: mirrorings to average over, as axes of a tensor counted from its end.
        dtype: what autocast runs in; float32 switches it off.
        runner: runs batches of windows.
        progress: told which window is done.
        mirrored: filled with the logits of every mirroring alone, in the order of `subsets`.
    """
    planar, separate, count = windows.planar, mirrored is not None, 1 + len(subsets) * (mirrored is not None)
    place = _place(runner.device, count * (len(background) + 1) * prod(windows.padded_zyx) * weight.element_size())
    blends = [Blend(windows, weight, classes=len(background), device=place) for _ in range(count)]
    padded, done = windows.padded(channels), 0

    def run(batch: Tensor) -> Tensor:
        flat = batch[:, :, 0] if planar else batch
        return mirrored_logits(network, flat, subsets, dtype, separate=separate)

    # In batches of one run each: nothing but the sums is kept, and the user sees where it is.
    for starts in windows.in_batches(runner.batch_size):
        cut = windows.cut(padded, starts)
        cut = cut.pin_memory() if runner.device.type == "cuda" else cut
        results = [parts for batch in runner.run(run, cut) for parts in batch]
        for start, parts in zip(starts, results, strict=True):
            for blend, logits in zip(blends, parts, strict=True):
                blend.add(start, logits[:, None] if planar else logits)
        done += len(starts)
        progress.update("segment", done / len(windows.starts), f"window {done} of {len(windows.starts)}")
    mean, *alone = (blend.result(background) for blend in blends)
    if mirrored is not None:
        mirrored.extend(alone)
    return mean


def _place(device: torch.device, needed_bytes: int) -> torch.device:
    """Where the sums lie: on a CUDA device that has four times as much memory free, so that no window waits for its way
    to the CPU; else on the CPU."""
    if device.type == "cuda" and 4 * needed_bytes <= torch.cuda.mem_get_info(device)[0]:
        return device
    return torch.device("cpu")
