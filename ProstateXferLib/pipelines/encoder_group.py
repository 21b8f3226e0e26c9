# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that share one encoder: every slice is encoded once, then decoded by all their heads."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.encoder_key import encoder_sha256
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size, refuse_non_finite
from ProstateXferLib.pipelines.group import StudyRun
from ProstateXferLib.pipelines.growing import SHOWS
from ProstateXferLib.pipelines.head_probabilities import head_probabilities
from ProstateXferLib.pipelines.mirroring import mirroring_name
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.pipelines.slice_decoder import HeadTask, SliceDecoder, slice_mirrorings
from ProstateXferLib.pipelines.tiling import STEP, Tiling
from ProstateXferLib.pipelines.unit import HeadFound, Numbered, Unit
from ProstateXferLib.progress import Progress


@dataclass(frozen=True)
class Member:
    """One checkpoint of a group: its card and its heads' names in the group's network."""

    card: ModelCard
    heads: tuple[tuple[str, Head], ...]


class EncoderGroup:
    """A network with one encoder and the heads of all members.

    Args:
        network: encoder and heads; head names are "<checkpoint's number>_<name in the card>".
        members: which heads belong to which card.
        units: one for each member.
        preprocessing: common to all members.
        levels: see `one_piece_levels`.
        device, dtype: where and in which format it runs.
    """

    folds = 1

    def __init__(
        self,
        network: MRDINOv3,
        members: Sequence[Member],
        units: Sequence[Unit],
        *,
        preprocessing: Preprocessing,
        levels: Mapping[frozenset[str], float],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.network = network.to(device=device, dtype=dtype).eval()
        self.members, self.units = tuple(members), tuple(units)
        self.preprocessing, self.levels, self.device = preprocessing, levels, device

    def predict(self, run: StudyRun) -> Iterator[HeadFound]:
        """As in `Group`."""
        image = run.images[self.members[0].card.inputs[0]]
        prepared = prepare_slices(image, self.preprocessing)
        spacing_zyx = image.GetSpacing()[::-1]
        size_yx, step = tuple(prepared.slices.shape[1:]), run.windows.step or STEP
        tiling = Tiling.of(size_yx, self.preprocessing.tile_yx, step=step)
        runner = tile_runner(self.network, tiling, move=self.network.to, device=self.device, progress=run.progress)
        tasks = head_tasks(self.members, prepared.spacing_zyx, self.levels)
        mirrors = slice_mirrorings(run.tta, self.preprocessing.mirror_axes)
        decoder = SliceDecoder(self.network, tasks, tiling, mirrors=mirrors, skip_outside=run.skip_outside)
        mirrored: dict[str, list[torch.Tensor]] = {}
        with torch.inference_mode():
            alone = None if run.part is None else mirrored
            logits = decoder.run(prepared.slices, runner, run.progress, mirrored=alone)
            self.device = runner.device

            def found(unit: Unit, head: Head, logits: torch.Tensor) -> HeadFound:
                volumes = head_probabilities(logits.transpose(0, 1), head, unit.card, prepared, spacing_zyx)
                return HeadFound(unit, head, volumes)

            for member, unit in zip(self.members, self.units, strict=True):
                for index, axes in enumerate(mirrors if run.part is not None else ()):
                    for name, head in member.heads:
                        run.part(mirroring_name(axes), found(unit, head, mirrored[name][index]))
                for name, head in member.heads:
                    refuse_non_finite(logits[name], member.card.name, next(self.network.parameters()).dtype)
                    yield found(unit, head, logits.pop(name))


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


def one_piece_levels(rules: Sequence[ModelCard]) -> dict[frozenset[str], float]:
    """Structures of a head of which one piece is kept -> the probability from which on they show (`growing.SHOWS`).

    Args:
        rules: the cards by which labels are composed; of heads for the same structures the first one's rules count.
    """
    heads: dict[frozenset[str], Head] = {}
    for card in rules:
        for head in card.heads:
            heads.setdefault(frozenset(names_found(card, head)), head)
    return {names: min(SHOWS, _threshold(head)) for names, head in heads.items() if head.largest_only}


def _threshold(head: Head) -> float:
    return 0.5 if head.threshold is None else head.threshold


def head_tasks(
    members: Sequence[Member], spacing_zyx: Sequence[float], levels: Mapping[frozenset[str], float] | None = None
) -> list[HeadTask]:
    """The heads of all members in running order: whole-image heads first, then those that work within a structure.

    Args:
        members: cards and the names of their heads in the network.
        spacing_zyx: mm between the network's pixels.
        levels: `one_piece_levels`; heads for other structures, and all where it is None, are decoded whole.

    Raises:
        ProstateXferError: a head works within a structure that no head of its card finds.
    """
    slice_mm, pixel_mm = spacing_zyx[0], min(spacing_zyx[1:])
    tasks, firsts, levels = [], {}, levels or {}
    for member in members:
        owner = {s.name: name for name, head in member.heads for s in member.card.structures if s.value in head.values}
        rules = dict(member.heads)
        for name, head in member.heads:
            if head.within is None:
                found = frozenset(names_found(member.card, head))
                first = firsts.setdefault(found, name) if head.largest_only and found in levels else name
                level = min(levels.get(found, SHOWS), _threshold(head))
                task = HeadTask(name, len(head.values) + 1, level=level)
                # Smoothing carries what is found into the slices above and below.
                reach = math.ceil(head.smoothing_mm / slice_mm)
                tasks.append(task if first == name else replace(task, like=first, margin_slices=reach))
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


def group_by_encoder(
    checkpoints: Numbered, device: torch.device, dtype: torch.dtype, *, rules: Sequence[ModelCard]
) -> list[EncoderGroup]:
    """Build the networks of `checkpoints`, one per distinct encoder, tapped blocks, preprocessing and input.

    Args:
        checkpoints: MR-DINOv3s.
        device, dtype: where and in which format they run.
        rules: the cards by which labels are composed.
    """
    collected: dict[tuple, tuple[MRDINOv3, list[Member], list[Unit], dict]] = {}
    for number, checkpoint in checkpoints:
        network, card = checkpoint.build(), checkpoint.card
        key = (encoder_sha256(network.dino_encoder, network.blocks), card.preprocessing, card.inputs)
        _, members, units, heads = collected.setdefault(key, (network, [], [], {}))
        own = tuple((f"{number}_{head.name}", head) for head in card.heads)
        heads.update({name: network.heads[head.name] for name, head in own})
        members.append(Member(card, own))
        units.append(Unit(card, (number,)))
    return [
        EncoderGroup(
            MRDINOv3(network.dino_encoder, heads, network.blocks),
            members,
            units,
            preprocessing=members[0].card.preprocessing,
            levels=one_piece_levels(rules),
            device=device,
            dtype=dtype,
        )
        for network, members, units, heads in collected.values()
    ]
