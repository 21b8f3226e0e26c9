# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of one nnU-Net plan, five folds as a rule: a study is prepared once, logits are averaged over the folds.

Everything between the image and the probabilities is nnU-Net's own (specification 4.2 to 4.4); with accumulate "fp16"
the result is its result to the bit wherever the convolutions are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch
from torch import nn

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.checkpoints.nnunet_plan import NnunetPlan
from ProstateXferLib.networks.fold_ensemble import FoldEnsemble
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size, refuse_non_finite
from ProstateXferLib.pipelines.group import StudyRun
from ProstateXferLib.pipelines.mirroring import mirroring_name
from ProstateXferLib.pipelines.nnunet.export import probabilities_on_grid
from ProstateXferLib.pipelines.nnunet.preparation import NnunetStudy, prepare_study
from ProstateXferLib.pipelines.nnunet.sliding_window import nnunet_mirrorings, study_logits
from ProstateXferLib.pipelines.postprocessing import background_of, smoothed
from ProstateXferLib.pipelines.unit import HeadFound, Numbered, Part, Unit
from ProstateXferLib.pipelines.window_options import WindowOptions
from ProstateXferLib.progress import Progress, SubProgress

_BYTES_PER_VOXEL = 4 * 256
"""Of a window, while it runs: 32 feature maps of full resolution in fp32, eight times, with room to spare."""


@dataclass(frozen=True)
class NnunetMember:
    """What is averaged by logits before export: the networks of folds, by their names."""

    card: ModelCard
    networks: Mapping[str, nn.Module]


class NnunetGroup:
    """Networks with one plan, one head and the same structures.

    Args:
        members: each averaged by itself.
        units: one for each member.
        device, dtype: where they run, and what autocast runs in (weights stay in fp32, as in nnU-Net).
        accumulate: "fp32" or "fp16", see `Segmenter`.
    """

    def __init__(
        self,
        members: Sequence[NnunetMember],
        units: Sequence[Unit],
        *,
        device: torch.device,
        dtype: torch.dtype,
        accumulate: str,
    ) -> None:
        self.members, self.units, self.accumulate = tuple(members), tuple(units), accumulate
        self.plan: NnunetPlan = self.members[0].card.preprocessing.nnunet
        self.device, self.dtype = device, dtype
        self.folds = max(len(member.networks) for member in self.members)
        self._move(device)

    def predict(self, run: StudyRun) -> Iterator[HeadFound]:
        """As in `Group`; the background is told, too."""
        card = self.members[0].card
        own = [run.images[sequence] for sequence in card.inputs]
        study = prepare_study(own, self.plan, run.progress)
        spacing_zyx = own[0].GetSpacing()[::-1]

        def found(unit: Unit, logits: torch.Tensor) -> HeadFound:
            return _head_found(logits, unit, study, self.plan, spacing_zyx)

        for index, (member, unit) in enumerate(zip(self.members, self.units, strict=True)):
            share = SubProgress(run.progress, index / len(self.members), (index + 1) / len(self.members))
            alone = None if run.part is None else partial(_told, run.part, partial(found, unit))
            with torch.inference_mode():
                axes = self.plan.mirror_axes if run.tta else ()
                logits = self._logits(member, study, axes, windows=run.windows, progress=share, alone=alone)
                refuse_non_finite(logits, card.name, self.dtype)
                result = found(unit, logits)
                del logits  # large, and no longer needed while others work on the result
            yield result

    def _logits(
        self,
        member: NnunetMember,
        study: NnunetStudy,
        axes: tuple[int, ...],
        *,
        windows: WindowOptions,
        progress: Progress,
        alone: Callable[[str, torch.Tensor], None] | None,
    ) -> torch.Tensor:
        """Mean over the folds, (K, z, y, x) in the accumulator's dtype; added up one by one, as nnU-Net does."""
        total, count = None, len(member.networks)
        together = default_batch_size(self.device, _BYTES_PER_VOXEL * prod(self.plan.patch))
        runner = AdaptiveRunner(self._move, self.device, together, progress, item="window")
        mirrored: list[torch.Tensor] | None = [] if alone is not None and count == 1 and axes else None
        for index, (fold, network) in enumerate(member.networks.items()):
            logits = study_logits(
                network,
                torch.from_numpy(study.channels),
                self.plan.patch,
                classes=member.card.heads[0].classes,
                axes=axes,
                accumulate=self.accumulate,
                dtype=self.dtype,
                runner=runner,
                progress=SubProgress(progress, index / count, (index + 1) / count),
                mirrored=mirrored,
                overlapping=member.card.heads[0].overlapping,
                options=windows,
            )
            if alone is not None and count > 1:
                alone(f"fold {fold}", logits)
            total = logits if total is None else total.add_(logits)
        if mirrored is not None:
            for subset, logits in zip(nnunet_mirrorings(axes, len(self.plan.patch)), mirrored, strict=True):
                alone(mirroring_name(subset), logits)
        self.device = runner.device
        return total.div_(count) if count > 1 else total

    def _move(self, device: torch.device) -> None:
        for member in self.members:
            for network in member.networks.values():
                network.to(device).eval()


def group_by_plan(
    checkpoints: Numbered, device: torch.device, dtype: torch.dtype, *, accumulate: str, apart: bool
) -> list[NnunetGroup]:
    """Build the networks, one group per plan, inputs and structures, so that a study is prepared once for all.

    Args:
        checkpoints: whichever folds the files hold and in whatever number.
        device, dtype, accumulate: see `NnunetGroup`.
        apart: every checkpoint is a unit of its own, as the members of an ensemble are; otherwise all folds of a plan
            are one unit, as in nnU-Net.
    """
    collected: dict[tuple, list[tuple[NnunetMember, Unit]]] = {}
    for number, checkpoint in checkpoints:
        card, built = checkpoint.card, checkpoint.build()
        plan = replace(card.preprocessing.nnunet, folds=("any",))
        key = (plan, card.inputs, card.architecture, card.heads, tuple(names_found(card, card.heads[0])))
        names = card.preprocessing.nnunet.folds
        networks = dict(built.folds.items()) if isinstance(built, FoldEnsemble) else {names[0]: built}
        entries = collected.setdefault(key, [])
        if apart or not entries:
            entries.append((NnunetMember(card, networks), Unit(card, (number,))))
        else:
            entries[0] = _with_folds(*entries[0], networks, number)
    return [
        NnunetGroup(*zip(*entries, strict=True), device=device, dtype=dtype, accumulate=accumulate)
        for entries in collected.values()
    ]


def _with_folds(
    member: NnunetMember, unit: Unit, networks: Mapping[str, nn.Module], number: int
) -> tuple[NnunetMember, Unit]:
    """The same with further folds; of equal names the later ones say which checkpoint they are of."""
    more = {name if name not in member.networks else f"{name} of model {number + 1}": n for name, n in networks.items()}
    return NnunetMember(member.card, {**member.networks, **more}), Unit(unit.card, (*unit.numbers, number))


def _told(part: Part, found: Callable[[torch.Tensor], HeadFound], name: str, logits: torch.Tensor) -> None:
    part(name, found(logits))


def _head_found(
    logits: torch.Tensor, unit: Unit, study: NnunetStudy, plan: NnunetPlan, spacing_zyx: Sequence[float]
) -> HeadFound:
    (head,) = unit.card.heads
    volumes = probabilities_on_grid(logits, study, plan, regions=head.overlapping)
    names = names_found(unit.card, head)
    named = dict(zip(names, volumes[-len(names) :], strict=True))
    if not head.overlapping:
        named[background_of(names)] = volumes[0]
    smooth = {name: smoothed(volume, head.smoothing_mm, spacing_zyx) for name, volume in named.items()}
    return HeadFound(unit, head, smooth)
