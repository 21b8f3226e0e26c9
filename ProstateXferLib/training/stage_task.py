# SPDX-License-Identifier: Apache-2.0
"""A stage's task, built from what the stage starts from and its cases."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ProstateXferLib.progress import Progress
from ProstateXferLib.training.named_checkpoints import NamedCheckpoint, start_of
from ProstateXferLib.training.recipe.schema import Chain, Stage
from ProstateXferLib.training.start_weights import read_start
from ProstateXferLib.training.tasks.registry import task_builder
from ProstateXferLib.training.tasks.task import StageContext, StageData, Task


def build_task(
    chain: Chain,
    stage: Stage,
    data: StageData,
    checkpoints: Mapping[str, NamedCheckpoint],
    *,
    cache: Path,
    device: torch.device,
    progress: Progress,
) -> Task:
    """Build the task of a stage; what the start does not bring is drawn from the recipe's seed, alike in every process.

    Args:
        chain, stage: what the recipe says.
        data: cases.
        checkpoints: those that the stage names (`named_checkpoints`).
        cache: folder for prepared data.
        device: where validation runs.
        progress: told how the preparation of the data goes.

    Raises:
        ProstateXferError: start, network, settings and cases do not fit together.
    """
    torch.manual_seed(chain.seed)
    start = start_of(checkpoints)
    context = StageContext(
        chain=chain,
        stage=stage,
        data=data,
        start=read_start(stage.start, start.path) if start else None,
        checkpoints={key: named.path for key, named in checkpoints.items()},
        cache=cache,
        device=device,
        progress=progress,
    )
    return task_builder(stage.task)(context)
