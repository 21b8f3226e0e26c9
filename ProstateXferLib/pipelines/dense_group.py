# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of dense networks, 2-D and 3-D, that share a preprocessing: a study is prepared once for all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.pipelines.dense_logits import dense_logits, dense_mirrorings, window_runner
from ProstateXferLib.pipelines.device import refuse_non_finite
from ProstateXferLib.pipelines.group import StudyRun
from ProstateXferLib.pipelines.head_probabilities import head_probabilities
from ProstateXferLib.pipelines.mirroring import mirroring_name
from ProstateXferLib.pipelines.preparation import PreparedImage, prepare_channels
from ProstateXferLib.pipelines.unit import HeadFound, Numbered, Unit
from ProstateXferLib.progress import SubProgress


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
        units: one for each member.
        device, dtype: where and in which format they run.
    """

    folds = 1

    def __init__(
        self, members: Sequence[DenseMember], units: Sequence[Unit], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.members, self.units, self.device, self.dtype = tuple(members), tuple(units), device, dtype
        self.preprocessing: Preprocessing = self.members[0].card.preprocessing
        self._move(device)

    def predict(self, run: StudyRun) -> Iterator[HeadFound]:
        """As in `Group`."""
        own = [run.images[sequence] for sequence in self.members[0].card.inputs]
        prepared = prepare_channels(own, self.preprocessing)
        spacing_zyx = own[0].GetSpacing()[::-1]
        for index, (member, unit) in enumerate(zip(self.members, self.units, strict=True)):
            share = SubProgress(run.progress, index / len(self.members), (index + 1) / len(self.members))
            card = member.card
            mirrored: list[torch.Tensor] = []
            with torch.inference_mode():
                runner = window_runner(card, prepared.channels, move=self._move, device=self.device, progress=share)
                logits = dense_logits(
                    member.network,
                    card,
                    prepared.channels,
                    runner=runner,
                    dtype=self.dtype,
                    tta=run.tta,
                    progress=share,
                    mirrored=None if run.part is None else mirrored,
                    options=run.windows,
                )
                self.device = runner.device
                refuse_non_finite(logits, card.name, self.dtype)
                for axes, alone in zip(dense_mirrorings(card, tta=run.tta) if run.part else (), mirrored, strict=True):
                    for found in _heads_found(alone, unit, prepared, spacing_zyx):
                        run.part(mirroring_name(axes), found)
                yield from _heads_found(logits, unit, prepared, spacing_zyx)

    def _move(self, device: torch.device) -> None:
        for member in self.members:
            member.network.to(device).eval()


def group_by_preprocessing(checkpoints: Numbered, device: torch.device, dtype: torch.dtype) -> list[DenseGroup]:
    """Build the networks of dense `checkpoints`, one group per preprocessing and inputs."""
    collected: dict[tuple, tuple[list[DenseMember], list[Unit]]] = {}
    for number, checkpoint in checkpoints:
        card = checkpoint.card
        members, units = collected.setdefault((card.preprocessing, card.inputs), ([], []))
        members.append(DenseMember(card, checkpoint.build()))
        units.append(Unit(card, (number,)))
    return [DenseGroup(members, units, device=device, dtype=dtype) for members, units in collected.values()]


def _heads_found(
    logits: torch.Tensor, unit: Unit, prepared: PreparedImage, spacing_zyx: Sequence[float]
) -> Iterator[HeadFound]:
    """The heads' channels lie one after another, the background of each first."""
    first = 0
    for head in unit.card.heads:
        channels = slice(first, first + 1 + len(head.values))
        first = channels.stop
        yield HeadFound(unit, head, head_probabilities(logits[channels], head, unit.card, prepared, spacing_zyx))
