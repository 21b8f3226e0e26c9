# SPDX-License-Identifier: Apache-2.0
"""What the engine needs from a task, and what a task gets from a stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.progress import Progress, SilentProgress
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.recipe.schema import Chain, Stage


@dataclass(frozen=True)
class StageData:
    """The cases of a stage after the split; no patient is in two of them, but for tuning cases, which train as well.

    Attributes:
        train: (weight, cases) of every source that is trained on.
        validation, tuning, test: cases that select, that tune a threshold (SAP), that score the result.
    """

    train: tuple[tuple[float, tuple[Case, ...]], ...]
    validation: tuple[Case, ...] = ()
    tuning: tuple[Case, ...] = ()
    test: tuple[Case, ...] = ()


@dataclass(frozen=True)
class StageContext:
    """All that a task is built from.

    Attributes:
        chain, stage: what the recipe says; `stage.settings` is the task's own dataclass.
        data: cases.
        start: card and weights of the checkpoint it starts from (None: random), already cut by `parts` and `drop`.
        cache: folder for prepared data; shared between stages and runs, keyed by content.
        device: where validation runs.
        progress: told how the preparation of the data goes.
        checkpoints: files of all checkpoints that the stage names, by key ("settings.gram.teacher"); see
            `recipe.checks.names_of_checkpoints`.
    """

    chain: Chain
    stage: Stage
    data: StageData
    start: tuple[ModelCard, Mapping[str, Tensor]] | None
    cache: Path
    device: torch.device
    progress: Progress = field(default_factory=SilentProgress)
    checkpoints: Mapping[str, Path] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of everything random in this stage."""
        return self.chain.seed


class Samples(Protocol):
    """Training samples by number: the same number gives the same sample, in any process, before and after a kill.

    That is what makes resuming exact and DDP equal to one process: nothing but the number says what is drawn.
    """

    def __len__(self) -> int:
        """Samples in one epoch."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index` (0, 1, ... without end; epoch = index // len) as tensors without batch axis."""


class Task(Protocol):
    """What is learned in one stage.

    Attributes:
        learner: `learner(batch, step)` -> (loss, {name: value to log}); its parameters are what the optimiser sees, its
            state dict is what a resumed run needs (a self-supervised teacher is part of it).
        network: the module that EMA, validation and the checkpoint are about; a part of `learner`.
        samples: training samples.
    """

    learner: nn.Module
    network: nn.Module
    samples: Samples

    def after_backward(self, step: int) -> None:
        """Called before the optimiser's step (e.g. to hold a layer still)."""

    def after_step(self, step: int) -> None:
        """Called after the optimiser's step (e.g. to move a teacher)."""

    def validate(self, network: nn.Module, progress: Progress) -> dict[str, float]:
        """Values on the validation cases, by metric name; empty where there are none. `network` is in eval mode."""

    def card(self) -> ModelCard:
        """The card of what is being trained, without history and scores."""

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """What goes into the checkpoint, under the names of the card's architecture."""

    def finish(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> None:
        """Complete the card of the stage's selected checkpoint from its tuning cases (SAP's threshold), in the file."""

    def score(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> list[Any]:
        """`Score`s of the finished checkpoint on test cases, through the pipeline that users run."""
