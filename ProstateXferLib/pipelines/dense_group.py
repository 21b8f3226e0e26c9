# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of dense networks, 2-D and 3-D, that share a preprocessing: a study is prepared once for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.pipelines.dense_logits import dense_logits, window_runner
from ProstateXferLib.pipelines.device import refuse_non_finite
from ProstateXferLib.pipelines.head_probabilities import head_probabilities
from ProstateXferLib.pipelines.preparation import prepare_channels
from ProstateXferLib.progress import Progress, SubProgress


@dataclass(frozen=True)
class DenseMember:
    """One checkpoint of a group and its network."""

    card: ModelCard
    network: nn.Module


class DenseGroup:
    """Dense networks with a common preprocessing.

    Their weights stay in fp32; where another precision is asked for, autocast runs in it what may be (as nnU-Net does).

    Args:
        members: cards and networks.
        device, dtype: where and in which format they run.
    """

    def __init__(self, members: Sequence[DenseMember], *, device: torch.device, dtype: torch.dtype) -> None:
        self.members, self.device, self.dtype = tuple(members), device, dtype
        self.preprocessing: Preprocessing = self.members[0].card.preprocessing
        for member in self.members:
            member.network.to(device).eval()

    def predict(
        self, images: Mapping[str, sitk.Image], *, tta: bool, skip_outside: bool, progress: Progress
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (structure name, probability (z, y, x) on the first image's grid) for every head of every member.

        Args:
            images: by sequence, in channel order.
            tta: average the logits over all mirrorings along the axes that the card allows (2-D: four, 3-D: eight).
            skip_outside: has no effect: a dense network works on whole windows, so nothing can be left out of them.
            progress: told which window is done.
        """
        images = list(images.values())
        prepared = prepare_channels(images, self.preprocessing)
        spacing_zyx = images[0].GetSpacing()[::-1]
        for index, member in enumerate(self.members):
            card, part = member.card, SubProgress(progress, index / len(self.members), (index + 1) / len(self.members))
            with torch.inference_mode():
                runner = window_runner(card, prepared.channels, move=self._move, device=self.device, progress=part)
                logits = dense_logits(
                    member.network, card, prepared.channels, runner=runner, dtype=self.dtype, tta=tta, progress=part
                )
                self.device = runner.device
                refuse_non_finite(logits, card.name, self.dtype)
                first = 0
                for head in card.heads:
                    channels = slice(first, first + 1 + len(head.values))
                    first = channels.stop
                    yield from head_probabilities(logits[channels], head, card, prepared, spacing_zyx)

    def _move(self, device: torch.device) -> None:
        for member in self.members:
            member.network.to(device)


def group_by_preprocessing(
    checkpoints: Sequence[Checkpoint], device: torch.device, dtype: torch.dtype
) -> list[DenseGroup]:
    """Build the networks of dense `checkpoints`, one group per preprocessing."""
    collected: dict[Preprocessing, list[DenseMember]] = {}
    for checkpoint in checkpoints:
        member = DenseMember(checkpoint.card, checkpoint.build())
        collected.setdefault(checkpoint.card.preprocessing, []).append(member)
    return [DenseGroup(members, device=device, dtype=dtype) for members in collected.values()]
