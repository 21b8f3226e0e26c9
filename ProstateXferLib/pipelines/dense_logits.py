# SPDX-License-Identifier: Apache-2.0
"""A dense network's logits on a whole prepared study: window by window, mirrored where asked for, blended."""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import prod

import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.architectures import tile_multiple
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size
from ProstateXferLib.pipelines.windows import Blend, Windows
from ProstateXferLib.progress import Progress

_MAPS_PER_VOXEL = 256
"""Feature maps of full resolution that a network may hold at once: 32 channels, eight times, with room to spare."""
_AXES = "zyx"


def window_runner(
    card: ModelCard,
    channels: Tensor,
    *,
    move: Callable[[torch.device], None],
    device: torch.device,
    progress: Progress,
) -> AdaptiveRunner:
    """A runner whose first batch has as many windows of this study as memory should hold; `move` as in its class."""
    window_zyx = _windows(card, channels).window_zyx
    together = default_batch_size(device, 4 * _MAPS_PER_VOXEL * prod(window_zyx))
    return AdaptiveRunner(move, device, together, progress, item="window")


def dense_logits(
    network: nn.Module,
    card: ModelCard,
    channels: Tensor,
    *,
    runner: AdaptiveRunner,
    dtype: torch.dtype,
    tta: bool,
    progress: Progress,
) -> Tensor:
    """Logits (K, z, y, x), fp32, on the CPU; the channels of the card's heads one after another.

    Args:
        network: in evaluation mode, fp32, on the runner's device.
        card: says architecture, tile and heads.
        channels: (C, z, y, x) float32, prepared (preparation.py), on the CPU.
        runner: see `window_runner`.
        dtype: what autocast runs in; float32 switches it off.
        tta: average over every mirroring that the card allows.
        progress: told which window is done.
    """
    windows, dimensions = _windows(card, channels), len(tile_multiple(card.architecture, card.arguments))
    mirrorings = _mirrorings(card.preprocessing.mirror_axes, dimensions) if tta else [()]

    def mirrored(batch: Tensor) -> Tensor:
        return _mirrored(network, batch[:, :, 0] if dimensions == 2 else batch, mirrorings, dtype)

    padded = windows.padded(channels)
    blend, done = Blend(windows, sum(1 + len(head.values) for head in card.heads)), 0
    # In batches of one run each: nothing but the sum is kept, and the user sees where it is.
    for starts in windows.in_batches(runner.batch_size):
        results = [part.cpu() for part in runner.run(mirrored, windows.cut(padded, starts))]
        for start, logits in zip(starts, torch.cat(results), strict=True):
            blend.add(start, logits[:, None] if dimensions == 2 else logits)
        done += len(starts)
        progress.update("segment", done / len(windows.starts), f"window {done} of {len(windows.starts)}")
    return blend.result()


def _windows(card: ModelCard, channels: Tensor) -> Windows:
    multiple = tile_multiple(card.architecture, card.arguments)
    return Windows.of(tuple(channels.shape[1:]), card.preprocessing, multiple)


def _mirrored(network: nn.Module, tiles: Tensor, mirrorings: Sequence[tuple[int, ...]], dtype: torch.dtype) -> Tensor:
    """Tiles (B, C, ...) -> logits (B, K, ...), fp32: the mean over the mirrorings, each mirrored back."""
    total = None
    for axes in mirrorings:
        with torch.autocast(tiles.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(tiles.flip(axes) if axes else tiles)
        logits = logits.float().flip(axes) if axes else logits.float()
        total = logits if total is None else total.add_(logits)
    return total.div_(len(mirrorings)) if len(mirrorings) > 1 else total


def _mirrorings(allowed: Sequence[str] | None, dimensions: int) -> list[tuple[int, ...]]:
    """Every subset of the axes that may be mirrored, as axes of a tensor counted from its end."""
    axes = [_AXES.index(name) - 3 for name in _AXES[-dimensions:] if allowed is None or name in allowed]
    return [subset for count in range(len(axes) + 1) for subset in combinations(axes, count)]
