# SPDX-License-Identifier: Apache-2.0
"""The task "segmentation": gland, lesions or anything else that is drawn, on slices or volumes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.card import ModelCard, Score
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.engine.parameter_groups import assign_parameters
from ProstateXferLib.training.engine.progress_text import WithoutBar
from ProstateXferLib.training.tasks.segmentation_heads import HeadTarget, head_target
from ProstateXferLib.training.tasks.segmentation_inference import logits_function
from ProstateXferLib.training.tasks.segmentation_learner import DenseLearner, TokenLearner
from ProstateXferLib.training.tasks.segmentation_network import segmentation_network
from ProstateXferLib.training.tasks.segmentation_preparation import preparation, with_training_statistics
from ProstateXferLib.training.tasks.segmentation_samples import (
    SamplesWithDraws,
    feature_samples,
    segmentation_samples,
)
from ProstateXferLib.training.tasks.segmentation_scores import segmentation_scores
from ProstateXferLib.training.tasks.segmentation_settings import SegmentationSettings
from ProstateXferLib.training.tasks.segmentation_validation import validation_values
from ProstateXferLib.training.tasks.task import Samples, StageContext
from ProstateXferLib.training.tasks.threshold_tuning import tune_head_threshold


class Segmentation:
    """See `tasks.task.Task` for what each member is.

    Args:
        context: chain, stage, cases and start.
        learner: holds the network.
        samples: training samples.
        validation: cases that select.
        card: of the network that is trained.
    """

    def __init__(
        self,
        context: StageContext,
        learner: TokenLearner | DenseLearner,
        samples: Samples,
        *,
        validation: Sequence[PreparedCase],
        card: ModelCard,
    ) -> None:
        self._context, self._validation, self._card = context, tuple(validation), card
        self.learner, self.network, self.samples = learner, learner.network, samples

    def after_backward(self, step: int) -> None:
        """Nothing is held still."""

    def after_step(self, step: int) -> None:
        """Nothing follows."""

    def validate(self, network: nn.Module, progress: Progress) -> dict[str, float]:
        """Dice of whole cases and, where asked for, of slices; see `validation_values`."""
        if not self._validation:
            return {}
        settings: SegmentationSettings = self._context.stage.settings
        device = next(network.parameters()).device
        return validation_values(
            self._validation,
            logits_function(network, self._card, device=device, progress=WithoutBar(progress)),
            self._card,
            slices_above_pixels=settings.validation.slices_above_pixels,
            progress=progress,
        )

    def card(self) -> ModelCard:
        """The card without history and scores."""
        return self._card

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's own names: those of its architecture."""
        return dict(network.state_dict())

    def finish(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> None:
        """Tune the threshold that the settings ask for; see `tasks/threshold_tuning.py`."""
        settings: SegmentationSettings = self._context.stage.settings
        if settings.tune is not None:
            tune_head_threshold(checkpoint, cases, settings.tune, device=str(self._context.device), progress=progress)

    def score(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> list[Score]:
        """Dice of every structure through `Segmenter`, one score a set of cases."""
        stage, device = self._context.stage, str(self._context.device)
        return segmentation_scores(checkpoint, cases, stage.data, device=device, progress=progress)


def build(context: StageContext) -> Segmentation:
    """Prepare the cases and build the network of a segmentation stage.

    Raises:
        ProstateXferError: cases, network, start and settings that do not fit each other.
    """
    stage, folder = context.stage, context.cache / "prepared"
    _check_tuning(context)
    everyone = [case for _, cases in context.data.train for case in cases]
    settings = with_training_statistics(stage.settings, everyone, folder, progress=context.progress)
    prepare = preparation(settings, folder, progress=context.progress)
    sources = [(weight, prepare(cases)) for weight, cases in context.data.train]
    structures = settings.structures
    targets = {
        head.name: head_target(head.name, [one.name for one in named], structures)
        for head, named in zip(settings.heads, settings.structures_by_head, strict=True)
    }
    torch.manual_seed(context.seed)  # fresh weights are the recipe's, whatever ran before
    network, arguments = segmentation_network(
        stage.network,
        list(targets.values()),
        channels=len(settings.sequences),
        preprocessing=settings.preprocessing,
        start=context.start,
        rule=stage.start,
    )
    card = _card(context, settings, arguments)
    learner: TokenLearner | DenseLearner
    if isinstance(network, MRDINOv3):
        learner = _token_learner(network, targets, settings)
    else:
        learner = DenseLearner(network, list(targets.values()), loss=settings.loss)
    samples = _samples(context, settings, learner, sources)
    return Segmentation(context, learner, samples, validation=prepare(context.data.validation), card=card)


def _check_tuning(context: StageContext) -> None:
    """Refuse now what would only be found out when training is over."""
    wanted, cases = context.stage.settings.tune is not None, context.data.tuning
    if wanted and not cases:
        raise ProstateXferError(
            f"The stage '{context.stage.name}' tunes a threshold (settings.tune), but its split keeps no cases for "
            "that: give the split a tuning_fold."
        )
    if cases and not wanted:
        raise ProstateXferError(
            f"The split of the stage '{context.stage.name}' keeps {len(cases)} cases to tune a threshold, but "
            "settings.tune names no head: name one, or leave tuning_fold out."
        )


def _samples(
    context: StageContext,
    settings: SegmentationSettings,
    learner: TokenLearner | DenseLearner,
    sources: Sequence[tuple[float, Sequence[PreparedCase]]],
) -> Samples:
    seed, network = context.seed, learner.network
    if settings.features is None:
        samples = segmentation_samples(sources, settings, batch_size=context.stage.loop.batch_size, seed=seed)
    else:
        assigned = assign_parameters(learner, context.stage.optimiser, context.stage.groups)
        if not isinstance(network, MRDINOv3) or any("dino_encoder" in e.name and not e.frozen for e in assigned):
            raise ProstateXferError(
                f"The stage '{context.stage.name}' caches the features of an encoder that it does not freeze: freeze "
                "dino_encoder in groups, or leave features out."
            )
        place = {"folder": context.cache / "features", "device": context.device, "progress": context.progress}
        samples = feature_samples(sources, settings, network, seed=seed, **place)
    needs_draws = isinstance(learner, TokenLearner) and not settings.tokens.all
    return SamplesWithDraws(samples, seed) if needs_draws else samples


def _token_learner(
    network: MRDINOv3, targets: Mapping[str, HeadTarget], settings: SegmentationSettings
) -> TokenLearner:
    finder = {
        structure.name: targets[head.name]
        for head, named in zip(settings.heads, settings.structures_by_head, strict=True)
        for structure in named
    }
    within = {head.name: finder[head.within] for head in settings.heads if head.within is not None}
    return TokenLearner(network, list(targets.values()), within, loss=settings.loss, shares=settings.tokens)


def _card(context: StageContext, settings: SegmentationSettings, arguments: dict[str, Any]) -> ModelCard:
    chain = context.chain
    return ModelCard(
        name=chain.name,
        task="segmentation",
        architecture=context.stage.network.architecture,
        arguments=arguments,
        inputs=settings.sequences,
        preprocessing=settings.preprocessing,
        structures=settings.structures,
        heads=settings.card_heads,
        **dataclasses.asdict(chain.texts),
    )
