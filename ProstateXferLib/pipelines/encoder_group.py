# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that share one encoder: every slice is encoded once, then decoded by all their heads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.encoder_key import encoder_sha256
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size, refuse_non_finite
from ProstateXferLib.pipelines.head_probabilities import head_probabilities
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.pipelines.slice_decoder import HeadTask, SliceDecoder
from ProstateXferLib.pipelines.tiling import Tiling
from ProstateXferLib.progress import Progress


@dataclass(frozen=True)
class Member:
    """One checkpoint of a group: its card and its heads' names in the group's network."""

    card: ModelCard
    heads: tuple[tuple[str, Head], ...]


class EncoderGroup:
    """A network with one encoder and the heads of all members.

    Args:
        network: encoder and heads; head names are "<member index>_<name in the card>".
        members: which heads belong to which card.
        preprocessing: common to all members.
        device, dtype: where and in which format it runs.
    """

    def __init__(
        self,
        network: MRDINOv3,
        members: Sequence[Member],
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.network = network.to(device=device, dtype=dtype).eval()
        self.members, self.preprocessing, self.device = tuple(members), preprocessing, device

    def predict(
        self, images: Mapping[str, sitk.Image], *, tta: bool, skip_outside: bool, progress: Progress
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (structure name, probability (z, y, x) on the image's grid) for every head of every member.

        Args:
            images: the one image, by its sequence.
            tta: average over the four in-plane mirrorings.
            skip_outside: decode only tokens that can hold something, see `Segmenter`.
            progress: told which slice is done.
        """
        (image,) = images.values()
        prepared = prepare_slices(image, self.preprocessing)
        tiling = Tiling.of(tuple(prepared.slices.shape[1:]), self.preprocessing.tile_yx)
        runner = tile_runner(self.network, tiling, move=self.network.to, device=self.device, progress=progress)
        tasks = head_tasks(self.members, prepared.spacing_zyx)
        decoder = SliceDecoder(self.network, tasks, tiling, tta=tta, skip_outside=skip_outside)
        with torch.inference_mode():
            logits = decoder.run(prepared.slices, runner, progress)
            self.device = runner.device
            for member in self.members:
                for name, head in member.heads:
                    refuse_non_finite(logits[name], member.card.name, next(self.network.parameters()).dtype)
                    found = logits.pop(name).transpose(0, 1)
                    yield from head_probabilities(found, head, member.card, prepared, image.GetSpacing()[::-1])


def tile_runner(
    network: MRDINOv3,
    tiling: Tiling,
    *,
    move: Callable[[torch.device], None],
    device: torch.device,
    progress: Progress,
) -> AdaptiveRunner:
    """A runner whose first batch has as many tiles as memory should hold; `move` as in its class."""
    tokens = tiling.tile_yx[0] * tiling.tile_yx[1] // PATCH**2
    # The widest activations of one tile: feed-forward and attention of a block, fp32, with room to spare.
    together = default_batch_size(device, 4 * tokens * 12 * network.dino_encoder.hidden)
    return AdaptiveRunner(move, device, together, progress)


def head_tasks(members: Sequence[Member], spacing_zyx: Sequence[float]) -> list[HeadTask]:
    """The heads of all members in running order: whole-image heads first, then those that work within a structure.

    Args:
        members: cards and the names of their heads in the network.
        spacing_zyx: mm between the network's pixels.

    Raises:
        ProstateXferError: a head works within a structure that no head of its card finds.
    """
    slice_mm, pixel_mm = spacing_zyx[0], min(spacing_zyx[1:])
    tasks = []
    for member in members:
        owner = {s.name: name for name, head in member.heads for s in member.card.structures if s.value in head.values}
        rules = dict(member.heads)
        for name, head in member.heads:
            if head.within is None:
                tasks.append(HeadTask(name, len(head.values) + 1))
                continue
            source = owner.get(head.within)
            if source is None:
                raise ProstateXferError(f"Model '{member.card.name}': no head finds '{head.within}' for '{head.name}'.")
            # Smoothing may carry the gland as far as its width; and two pixels more, because gland and lesion are
            # judged after interpolation, which looks one pixel further each.
            reach_mm = head.margin_mm + rules[source].smoothing_mm
            near = {"margin_px": reach_mm / pixel_mm + 2, "margin_slices": int(reach_mm / slice_mm)}
            level = rules[source].threshold
            tasks.append(HeadTask(name, len(head.values) + 1, within=source, within_level=level, **near))
    return sorted(tasks, key=lambda task: task.within is not None)


def group_by_encoder(checkpoints: Sequence[Checkpoint], device: torch.device, dtype: torch.dtype) -> list[EncoderGroup]:
    """Build the networks of `checkpoints`, one per distinct encoder, tapped blocks and preprocessing."""
    collected: dict[tuple, tuple[MRDINOv3, list[Member], dict, Preprocessing]] = {}
    for index, checkpoint in enumerate(checkpoints):
        network, card = checkpoint.build(), checkpoint.card
        key = (encoder_sha256(network.dino_encoder, network.blocks), card.preprocessing)
        _, members, heads, _ = collected.setdefault(key, (network, [], {}, card.preprocessing))
        own = tuple((f"{index}_{head.name}", head) for head in card.heads)
        heads.update({name: network.heads[head.name] for name, head in own})
        members.append(Member(card, own))
    return [
        EncoderGroup(
            MRDINOv3(network.dino_encoder, heads, network.blocks), members, preprocessing, device=device, dtype=dtype
        )
        for network, members, heads, preprocessing in collected.values()
    ]
