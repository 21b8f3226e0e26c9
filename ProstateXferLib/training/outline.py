# SPDX-License-Identifier: Apache-2.0
"""What a recipe would do with the data at hand: cases, splits, steps and parameters; nothing is trained or kept."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ProstateXferLib.progress import Progress
from ProstateXferLib.training.engine.parameter_groups import assign_parameters
from ProstateXferLib.training.engine.rates import stage_length
from ProstateXferLib.training.named_checkpoints import named_checkpoints
from ProstateXferLib.training.recipe.checks import check_files, earlier_stage, names_of_checkpoints
from ProstateXferLib.training.recipe.schema import Chain, Stage
from ProstateXferLib.training.run_folder import RunFolder
from ProstateXferLib.training.stage_data import FoundData, find_data
from ProstateXferLib.training.stage_task import build_task
from ProstateXferLib.training.tasks.task import StageData, Task


def outline_chain(chain: Chain, *, data: Path, run_folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """One mapping a stage: "sources", "split" (cases a side), "steps_per_epoch", "total_steps", "parameters" by group.

    The network is built as for training, but with one case a source, so that preparing it takes seconds. Hence steps of
    an epoch that is one pass over the data are None (unless one case a source is all there is), and so are the
    parameters of a stage that starts from one which has not been trained in `run_folder`.

    Raises:
        ProstateXferError: whatever would stop the training before its first step.
    """
    check_files(chain, data)
    folder = RunFolder(run_folder)
    paths = {s.name: folder.stage(i, s.name).weights(s.selection.keep) for i, s in enumerate(chain.stages)}
    outlines = []
    for index, stage in enumerate(chain.stages):
        selected = {earlier.name: paths[earlier.name] for earlier in chain.stages[:index]}
        found = find_data(stage, data)
        few = _few(found.split)
        task = _task(chain, stage, few, selected, progress)
        outlines.append(_outline(found, task, everything=few == found.split))
    return outlines


def _task(chain: Chain, stage: Stage, data: StageData, selected: Mapping[str, Path], progress: Progress) -> Task | None:
    stages = [earlier_stage(name, list(selected), key=key) for key, name in names_of_checkpoints(stage).items()]
    if any(name is not None and not selected[name].is_file() for name in stages):
        return None
    with tempfile.TemporaryDirectory(prefix="prostatexfer-") as folder:
        checkpoints = named_checkpoints(stage, selected, packages=Path(folder) / "packages")
        options = {"cache": Path(folder) / "cache", "device": torch.device("cpu"), "progress": progress}
        return build_task(chain, stage, data, checkpoints, **options)


def _few(data: StageData) -> StageData:
    train = tuple((weight, cases[:1]) for weight, cases in data.train)
    sides = {side: getattr(data, side)[:1] for side in ("validation", "tuning", "test")}
    return dataclasses.replace(data, train=train, **sides)


def _outline(found: FoundData, task: Task | None, *, everything: bool) -> dict[str, Any]:
    stage, split = found.stage, found.split
    length = None
    if stage.schedule.steps_per_epoch is not None:
        length = stage_length(stage.schedule, samples=0, batch_size=stage.loop.batch_size)
    elif task is not None and everything:
        length = stage_length(stage.schedule, samples=len(task.samples), batch_size=stage.loop.batch_size)
    sides = {side: len(getattr(split, side)) for side in ("validation", "tuning", "test")}
    return {
        "stage": stage.name,
        "sources": [
            {
                "layout": source.layout,
                "path": source.path,
                "weight": source.weight,
                "test_only": source.test_only,
                "cases": len(cases),
            }
            for source, cases in found.sources
        ],
        "split": {"train": sum(len(cases) for _, cases in split.train), **sides},
        "steps_per_epoch": length and length.steps_per_epoch,
        "total_steps": length and length.total_steps,
        "parameters": task and _parameters(task, stage),
    }


def _parameters(task: Task, stage: Stage) -> list[dict[str, Any]]:
    gathered: dict[tuple[str, bool], list] = {}
    for entry in assign_parameters(task.learner, stage.optimiser, stage.groups):
        gathered.setdefault((entry.group, entry.frozen), []).append(entry)
    return [
        {
            "group": group,
            "frozen": frozen,
            "parameters": sum(entry.parameter.numel() for entry in entries),
            "factor": (min(e.factor for e in entries), max(e.factor for e in entries)),
        }
        for (group, frozen), entries in gathered.items()
    ]
