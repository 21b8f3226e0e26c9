# SPDX-License-Identifier: Apache-2.0
"""A network's logits on whole prepared cases, as the pipeline makes them, without reading or writing a file."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.dense_logits import dense_logits, window_runner
from ProstateXferLib.pipelines.encoder_group import Member, head_tasks, tile_runner
from ProstateXferLib.pipelines.slice_decoder import SliceDecoder
from ProstateXferLib.pipelines.tiling import Tiling
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.cache.prepared import PreparedCase


def logits_function(
    network: nn.Module, card: ModelCard, *, device: torch.device, progress: Progress
) -> Callable[[PreparedCase], dict[str, Tensor]]:
    """A function from a prepared case to the logits (z, K, y, x) of each head, on the CPU, fp32.

    Args:
        network: in evaluation mode, on `device`.
        card: says tiles and heads.
        device: where it runs.
        progress: told slices or windows; asked whether to stop.
    """
    if isinstance(network, MRDINOv3):
        return lambda case: _token_logits(network, card, case, device=device, progress=progress)
    return lambda case: _dense_logits(network, card, case, device=device, progress=progress)


def _token_logits(
    network: MRDINOv3, card: ModelCard, case: PreparedCase, *, device: torch.device, progress: Progress
) -> dict[str, Tensor]:
    slices = torch.from_numpy(np.array(case.image[0]))
    tiling = Tiling.of(tuple(slices.shape[1:]), card.preprocessing.tile_yx)
    member = Member(card, tuple((head.name, head) for head in card.heads))
    runner = tile_runner(network, tiling, move=_stay, device=device, progress=progress)
    decoder = SliceDecoder(network, head_tasks([member], case.spacing_zyx), tiling, skip_outside=True)
    return decoder.run(slices, runner, progress)


def _dense_logits(
    network: nn.Module, card: ModelCard, case: PreparedCase, *, device: torch.device, progress: Progress
) -> dict[str, Tensor]:
    image = torch.from_numpy(np.array(case.image))
    runner = window_runner(card, image, move=_stay, device=device, progress=progress)
    # The engine validates within its own autocast, which another one inside would switch off.
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    logits = dense_logits(network, card, image, runner=runner, dtype=dtype, tta=False, progress=progress)
    channels = logits.split([1 + len(head.values) for head in card.heads])
    return {head.name: part.transpose(0, 1) for head, part in zip(card.heads, channels, strict=True)}


def _stay(device: torch.device) -> None:
    """A network that is being trained does not move to the CPU for good because one validation was too large."""
    raise ProstateXferError(
        f"Memory ran out in validation even for one tile, and training cannot go on on the {device}: choose a smaller "
        "tile, or a device with more memory."
    )
