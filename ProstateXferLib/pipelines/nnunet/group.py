# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of one nnU-Net plan, five folds as a rule: a study is prepared once, logits are averaged over the folds.

Everything between the image and the probabilities is nnU-Net's own (specification 4.2 to 4.4); with accumulate "fp16"
the result is its result to the bit wherever the convolutions are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.networks.fold_ensemble import FoldEnsemble
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size, refuse_non_finite
from ProstateXferLib.pipelines.nnunet.export import probabilities_on_grid
from ProstateXferLib.pipelines.nnunet.preparation import NnunetStudy, prepare_study
from ProstateXferLib.pipelines.nnunet.sliding_window import study_logits
from ProstateXferLib.pipelines.postprocessing import background_of, smoothed
from ProstateXferLib.progress import Progress, SubProgress

_BYTES_PER_VOXEL = 4 * 256
"""Of a window, while it runs: 32 feature maps of full resolution in fp32, eight times, with room to spare."""


class NnunetGroup:
    """Networks with one plan, one head and the same structures.

    Args:
        card: of the first checkpoint.
        networks: one per fold.
        device, dtype: where they run, and what autocast runs in (weights stay in fp32, as in nnU-Net).
        accumulate: "fp32" or "fp16", see `Segmenter`.
    """

    def __init__(
        self,
        card: ModelCard,
        networks: Sequence[nn.Module],
        *,
        device: torch.device,
        dtype: torch.dtype,
        accumulate: str,
    ) -> None:
        self.card, self.networks, self.accumulate = card, tuple(networks), accumulate
        self.device, self.dtype = device, dtype
        self._move(device)

    def predict(
        self, images: Mapping[str, sitk.Image], *, tta: bool, skip_outside: bool, progress: Progress
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (structure name, probability (z, y, x) on the first image's grid), and the background's last.

        Args:
            images: by sequence, in channel order.
            tta: average the logits over all mirrorings along the axes that the checkpoint allows.
            skip_outside: has no effect: windows are run whole.
            progress: told which window is done.
        """
        (head,), plan = self.card.heads, self.card.preprocessing.nnunet
        study = prepare_study(list(images.values()), plan, progress)
        with torch.inference_mode():
            logits = self._logits(study, plan.mirror_axes if tta else (), progress)
            refuse_non_finite(logits, self.card.name, self.dtype)
            volumes = probabilities_on_grid(logits, study, plan, regions=head.overlapping)
        names = {structure.value: structure.name for structure in self.card.structures}
        found = [names[value] for value in head.values]
        spacing_zyx = next(iter(images.values())).GetSpacing()[::-1]
        for name, volume in zip(found, volumes[-len(found) :], strict=True):
            yield name, smoothed(volume, head.smoothing_mm, spacing_zyx)
        if not head.overlapping:
            yield background_of(found), smoothed(volumes[0], head.smoothing_mm, spacing_zyx)

    def _logits(self, study: NnunetStudy, axes: tuple[int, ...], progress: Progress) -> torch.Tensor:
        """Mean over the folds, (K, z, y, x) in the accumulator's dtype; added up one by one, as nnU-Net does."""
        plan, total = self.card.preprocessing.nnunet, None
        together = default_batch_size(self.device, _BYTES_PER_VOXEL * prod(plan.patch))
        runner = AdaptiveRunner(self._move, self.device, together, progress, item="window")
        for index, network in enumerate(self.networks):
            logits = study_logits(
                network,
                torch.from_numpy(study.channels),
                plan.patch,
                classes=self.card.heads[0].classes,
                axes=axes,
                accumulate=self.accumulate,
                dtype=self.dtype,
                runner=runner,
                progress=SubProgress(progress, index / len(self.networks), (index + 1) / len(self.networks)),
            )
            total = logits if total is None else total.add_(logits)
        self.device = runner.device
        return total.div_(len(self.networks)) if len(self.networks) > 1 else total

    def _move(self, device: torch.device) -> None:
        for network in self.networks:
            network.to(device).eval()


def group_by_plan(
    checkpoints: Sequence[Checkpoint], device: torch.device, dtype: torch.dtype, *, accumulate: str
) -> list[NnunetGroup]:
    """Build the networks, one group per plan and structures, whichever folds the files hold and in whatever number."""
    cards: dict[tuple, ModelCard] = {}
    networks: dict[tuple, list[nn.Module]] = {}
    for checkpoint in checkpoints:
        card, built = checkpoint.card, checkpoint.build()
        plan = replace(card.preprocessing.nnunet, folds=("any",))
        key = (plan, card.architecture, card.heads, tuple(structure.name for structure in card.structures))
        cards.setdefault(key, card)
        networks.setdefault(key, []).extend(built.folds.values() if isinstance(built, FoldEnsemble) else [built])
    return [
        NnunetGroup(card, networks[key], device=device, dtype=dtype, accumulate=accumulate)
        for key, card in cards.items()
    ]
