# SPDX-License-Identifier: Apache-2.0
"""Self-supervised training of a DINOv3 on unlabelled slices, e.g. the adaptation of a CT-tuned one to MR.

The checkpoint is the teacher's encoder. Source: MedDINOv3 (arXiv 2509.02379) and DINOv3 (arXiv 2508.10104); reference
notes 3.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing, Score
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import structure_by_name
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.augmentation.slice_intensity import PERCENTILES
from ProstateXferLib.training.cache.prepared import prepared_cases
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.engine.rates import stage_length
from ProstateXferLib.training.losses.self_supervised.processes import alone
from ProstateXferLib.training.sampling.draws import draw_seed
from ProstateXferLib.training.sampling.slice_views import UnlabelledCase, ViewSamples
from ProstateXferLib.training.tasks.self_supervision_learner import EncoderWithHeads, SelfSupervisedLearner
from ProstateXferLib.training.tasks.self_supervision_probe import (
    ProbedCase,
    effective_rank,
    neighbour_scores,
    patches_inside,
    slice_tokens,
    spread,
)
from ProstateXferLib.training.tasks.self_supervision_start import gram_teacher, starting_student
from ProstateXferLib.training.tasks.task import StageContext

HU_LIMITS = (-1000.0, 1000.0)
HOUNSFIELD = ("CT", "CBCT")
"""Sequences in HU; all others have no unit and are clamped to percentiles."""
PROBES = {"probe_dice": "Dice of patches by k-NN", "probe_auc": "AUC of patches by k-NN"}
"""What validation measures on labelled cases, and what a card calls it."""


class SelfSupervision:
    """The task of a self-supervised stage (tasks/task.py)."""

    def __init__(self, context: StageContext) -> None:
        stage = context.stage
        if stage.loop.ema:
            raise ProstateXferError(
                f"Stage '{stage.name}': the teacher is an average already, leave loop.ema at 0 in self-supervision."
            )
        self._context, self._settings = context, stage.settings
        # By the stage's name: stages of one chain shall not see the same crops in the same order.
        seed = draw_seed(context.seed, 0, stage.name)
        self.samples = self._samples([(w, self._prepared(cases)) for w, cases in context.data.train], seed)
        length = stage_length(stage.schedule, samples=len(self.samples), batch_size=stage.loop.batch_size)
        student = starting_student(context)
        self.learner = SelfSupervisedLearner(
            student,
            self._settings,
            steps=length.total_steps,
            epochs=stage.schedule.epochs,
            gram=gram_teacher(context, student.backbone),
        )
        self._last_step = length.total_steps - 1
        self._held_out = self._prepared(context.data.validation)

    @property
    def network(self) -> nn.Module:
        """The teacher with its heads; its encoder is what the checkpoint holds."""
        return self.learner.teacher

    def after_backward(self, step: int) -> None:
        """Hold the prototypes still in the first epochs."""
        self.learner.hold_prototypes(step)

    def after_step(self, step: int) -> None:
        """Move the teacher."""
        self.learner.move_teacher(step)

    def validate(self, network: EncoderWithHeads, progress: Progress) -> dict[str, float]:
        """On held-out slices: the loss, the tokens' spread and effective rank (collapse shows there), and where two
        patients have the probed structure drawn, the Dice and AUC of nearest neighbours ("probe_dice", "probe_auc")."""
        if not self._held_out:
            return {}
        # The engine validates in mixed precision; on the CPU that would reach into the views and the neighbours, too.
        with torch.autocast("cpu", enabled=False):
            values = self._held_out_loss() | self._collapse_measures(network.backbone)
            return values | self._probe(network.backbone, self._context.data.validation, progress)

    def card(self) -> ModelCard:
        """An encoder's card; how slices were scaled stands in its arguments."""
        texts, backbone = self._context.chain.texts, self.learner.teacher.backbone
        return ModelCard(
            name=self._context.chain.name,
            task="encoder",
            architecture="dinov3",
            title=texts.title,
            arguments={
                "eps": backbone.eps,
                "rope_dtype": "bf16" if backbone.rope_dtype == torch.bfloat16 else "fp32",
                "normalisation": {name: _normalisation(name) for name in self._settings.sequences},
            },
            inputs=(),
            training_data=texts.training_data,
            licence=texts.licence,
            citation=texts.citation,
        )

    def weights(self, network: EncoderWithHeads) -> dict[str, Tensor]:
        """The encoder under Meta's names; with its heads, each part under its prefix, where the settings keep them."""
        return dict((network if self._settings.keep_heads else network.backbone).state_dict())

    def finish(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> None:
        """Nothing is tuned."""

    def score(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> list[Score]:
        """What nearest neighbours tell of test cases, where at least two patients have the probed structure drawn."""
        backbone = load_checkpoint(checkpoint).build().to(self._context.device)
        values, structure = self._probe(backbone, cases, progress), self._settings.probe.structure
        count = len(self._probed(cases))
        return [Score(f"{structure}, {PROBES[name]}", value, "test cases", count) for name, value in values.items()]

    def _samples(self, sources: list[tuple[float, list[UnlabelledCase]]], seed: int) -> ViewSamples:
        settings = self._settings
        return ViewSamples(
            sources,
            sizes=settings.crops,
            views=settings.views,
            masks=settings.masks,
            batch_size=self._context.stage.loop.batch_size,
            seed=seed,
        )

    def _prepared(self, cases: Sequence[Case]) -> list[UnlabelledCase]:
        """Every sequence of every case that has it, as an image of its own."""
        return [
            UnlabelledCase(prepared, sequence not in HOUNSFIELD)
            for sequence in self._settings.sequences
            for prepared in prepared_cases(
                [case for case in cases if _has(case, sequence)],
                slice_preprocessing(sequence),
                (),
                sequences=(sequence,),
                folder=self._context.cache,
                progress=self._context.progress,
            )
        ]

    @torch.no_grad()
    def _held_out_loss(self) -> dict[str, float]:
        """Loss and parts on views of held-out slices, always the same ones, with the temperature of the end."""
        samples = self._samples([(1.0, self._held_out)], seed=0)
        size = self._context.stage.loop.batch_size
        device = next(self.learner.parameters()).device
        count = max(1, self._settings.probe.slices // size)
        mode, sums = self.learner.training, {}
        self.learner.eval()
        try:
            for batch in range(count):
                parts = [samples[batch * size + i] for i in range(size)]
                views = {name: torch.stack([part[name] for part in parts]).to(device) for name in parts[0]}
                with alone():
                    loss, terms = self.learner(views, self._last_step)
                for name, term in {"loss": loss, **terms}.items():
                    sums[name] = sums.get(name, 0.0) + float(term) / count
        finally:
            self.learner.train(mode)
        return sums

    def _collapse_measures(self, backbone: DINOv3) -> dict[str, float]:
        """Spread and effective rank of the tokens of slices that are evenly spread over all held-out ones."""
        places = [(case, z) for case in self._held_out for z in range(case.prepared.shape_zyx[0])]
        chosen = _spread(places, self._settings.probe.slices)
        classes, patches = zip(*(slice_tokens(backbone, case.slice_at(z)) for case, z in chosen), strict=True)
        tokens = {"class": torch.stack(classes), "patch": torch.cat(patches)}
        measures = {"spread": spread, "effective_rank": effective_rank}
        return {f"{kind}_{name}": of(tokens[kind]) for kind in tokens for name, of in measures.items()}

    def _probed(self, cases: Sequence[Case]) -> list[Case]:
        probe = self._settings.probe
        return [
            case
            for case in cases
            if _has(case, probe.sequence) and (probe.structure in case.masks or "phantom_seed" in case.attributes)
        ]

    def _probe(self, backbone: DINOv3, cases: Sequence[Case], progress: Progress) -> dict[str, float]:
        probe = self._settings.probe
        prepared = prepared_cases(
            self._probed(cases),
            slice_preprocessing(probe.sequence),
            (structure_by_name(probe.structure),),
            sequences=(probe.sequence,),
            folder=self._context.cache,
            progress=progress,
        )
        probed = []
        for case in prepared:
            image, labels = UnlabelledCase(case, probe.sequence not in HOUNSFIELD), case.labels
            tokens, inside = [], []
            for z in _spread(range(case.shape_zyx[0]), probe.slices_per_case):
                tokens.append(slice_tokens(backbone, image.slice_at(z))[1])
                inside.append(patches_inside(torch.from_numpy(np.array(labels[z]) > 0)))
            probed.append(ProbedCase(case.patient_id, torch.cat(tokens), torch.cat(inside)))
        return neighbour_scores(probed, probe.neighbours)


def build(context: StageContext) -> SelfSupervision:
    """The task of a stage."""
    return SelfSupervision(context)


def slice_preprocessing(sequence: str) -> Preprocessing:
    """How an image is stored for this task: its own pixels, HU clamped; slices are standardised when they are read.

    A standardised slice does not change when its volume was scaled linearly before, so that the cache's rules for
    whole volumes do no harm.
    """
    if sequence in HOUNSFIELD:
        return Preprocessing(IntensityRule("window", lower=HU_LIMITS[0], upper=HU_LIMITS[1]))
    return Preprocessing(IntensityRule("zscore"))


def _normalisation(sequence: str) -> str:
    limits = "{:g} to {:g} HU".format(*HU_LIMITS)
    if sequence not in HOUNSFIELD:
        limits = "the slice's {:g} and {:g} percentiles".format(*PERCENTILES)
    return f"clamped to {limits}, then z-score of the slice"


def _has(case: Case, sequence: str) -> bool:
    return sequence in case.images or "phantom_seed" in case.attributes


def _spread(items: Sequence, count: int) -> list:
    """At most `count` of the items, evenly spread."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)) if items else ()
    return [items[place] for place in places]
