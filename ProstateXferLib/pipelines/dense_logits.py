# SPDX-License-Identifier: Apache-2.0
"""A dense network's logits on a whole prepared study, cut and mirrored as its card says."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.architectures import tile_multiple
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.pipelines.blend import background_logits
from ProstateXferLib.pipelines.blended_logits import blended_logits
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size
from ProstateXferLib.pipelines.mirroring import mirrorings
from ProstateXferLib.pipelines.tissue import windows_with_tissue
from ProstateXferLib.pipelines.window_options import AS_MADE, WindowOptions
from ProstateXferLib.pipelines.windows import Windows
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
    mirrored: list[Tensor] | None = None,
    options: WindowOptions = AS_MADE,
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
        mirrored: filled with the logits of every mirroring alone, in the order of `dense_mirrorings`.
        options: how windows are laid.
    """
    windows = _windows(card, channels, options.step)
    if options.skip_empty:
        windows = windows_with_tissue(windows, channels)
    return blended_logits(
        network,
        channels,
        windows,
        weight=windows.weight(),
        background=background_logits([1 + len(head.values) for head in card.heads]),
        subsets=dense_mirrorings(card, tta=tta),
        dtype=dtype,
        runner=runner,
        progress=progress,
        mirrored=mirrored,
    )


def _windows(card: ModelCard, channels: Tensor, step: float | None = None) -> Windows:
    multiple = tile_multiple(card.architecture, card.arguments)
    return Windows.of(tuple(channels.shape[1:]), card.preprocessing, multiple, step=step)


def dense_mirrorings(card: ModelCard, *, tta: bool) -> list[tuple[int, ...]]:
    """The mirrorings to average over, as axes of a tensor counted from its end; without `tta` none."""
    allowed, dimensions = card.preprocessing.mirror_axes, len(tile_multiple(card.architecture, card.arguments))
    names = [name for name in _AXES[-dimensions:] if allowed is None or name in allowed]
    return mirrorings([_AXES.index(name) - 3 for name in names] if tta else [])
