# SPDX-License-Identifier: Apache-2.0
"""Stages in a row: each begins with what the one before selected, and the last one's selection is the result."""

import dataclasses
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ProstateXferLib.checkpoints.file_format import read_checkpoint, validate_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file, file_sha256, require_folder_of
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress
from ProstateXferLib.training.candidates import write_candidates
from ProstateXferLib.training.card_history import history_entry
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.engine.early_stopping import Selected
from ProstateXferLib.training.engine.fabric import Processes, make_fabric
from ProstateXferLib.training.engine.fit import fit
from ProstateXferLib.training.engine.progress_text import WithoutBar
from ProstateXferLib.training.named_checkpoints import (
    NamedCheckpoint,
    checkpoints_record,
    named_checkpoints,
    start_of,
)
from ProstateXferLib.training.recipe.checks import check_files
from ProstateXferLib.training.recipe.schema import Chain
from ProstateXferLib.training.run_folder import RunFolder
from ProstateXferLib.training.stage_data import find_data
from ProstateXferLib.training.stage_task import build_task
from ProstateXferLib.training.tasks.task import Task

CACHE_VARIABLE = "PROSTATEXFER_CACHE"
# Shares of the bar; how long these two take is not known before.
_PREPARED_FRACTION, _SCORED_FRACTION = 0.05, 0.05


@dataclass(frozen=True)
class _Run:
    """What all stages of a run share."""

    chain: Chain
    folder: RunFolder
    data: Path
    cache: Path
    device: torch.device


@dataclass(frozen=True)
class _Done:
    """A stage that is trained: what it hands on, its test cases, and its task where it was trained by this process."""

    name: str
    path: Path
    test: tuple[Case, ...] = ()
    task: Task | None = None


def run_chain(
    chain: Chain,
    output: Path,
    *,
    data: Path,
    device: torch.device,
    run_folder: Path | None = None,
    cache: Path | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train every stage of a recipe, going on where an earlier run in the folder was stopped, and score the result.

    Several processes started by torchrun train together; the first of them writes, so that the run folder must lie
    where all of them can read it.

    Args:
        chain: the recipe.
        output: checkpoint to write (.safetensors).
        data: folder that the sources' paths are relative to.
        device: of this process; of several processes its type counts.
        run_folder: state, logs and checkpoints of the stages; default: beside the output.
        cache: prepared data; default: $PROSTATEXFER_CACHE, else in the run folder.
        restart: forget what the run folder holds of an earlier run.
        progress: told the steps; asked whether to stop.

    Returns `output`, in every process.

    Raises:
        ProstateXferError: a file or folder that is not there, a run folder of another recipe or other data, one in
            which another process trains, data or weights that do not fit, a loss that is not finite.
        CancelledError: the user stopped; the same call goes on from there.
    """
    progress = progress or SilentProgress()
    require_folder_of(output)
    check_files(chain, data)
    folder = RunFolder(run_folder or default_run_folder(output))
    run = _Run(chain, folder, Path(data), cache or default_cache(folder.path), device)
    first = Processes.of_environment().rank == 0
    with folder.locked() if first else nullcontext():
        if first:
            folder.begin(chain, restart=restart)
        done: list[_Done] = []
        share = (1 - _SCORED_FRACTION) / len(chain.stages)
        for index in range(len(chain.stages)):
            done.append(_run_stage(run, index, done, SubProgress(progress, index * share, (index + 1) * share)))
        if first:
            write_candidates(folder, chain)
            _write_result(run, done, output, SubProgress(progress, 1 - _SCORED_FRACTION, 1.0))
    return output


def score_chain(
    chain: Chain,
    output: Path,
    *,
    data: Path,
    device: torch.device,
    run_folder: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train nothing: score a checkpoint that the recipe made before, and renew its card from the recipe.

    Arguments and errors as for `run_chain`; the run folder is only needed for a last stage that starts from another.
    """
    progress = progress or SilentProgress()
    check_files(chain, data)
    card, weights = read_checkpoint(output)
    folder = RunFolder(run_folder or default_run_folder(output))
    run = _Run(chain, folder, Path(data), cache or default_cache(folder.path), device)
    done = [_Done(s.name, folder.stage(i, s.name).weights(s.selection.keep)) for i, s in enumerate(chain.stages)]
    task = _task(run, len(chain.stages) - 1, done[:-1], progress)
    renewed = task.card()
    if (renewed.task, renewed.architecture) != (card.task, card.architecture):
        raise ProstateXferError(
            f"'{output.name}' is a {card.task} model of the architecture {card.architecture}; the recipe "
            f"'{chain.name}' makes another: give the checkpoint that it made."
        )
    split = find_data(chain.stages[-1], run.data).split
    with atomic_file(output) as unfinished:  # never there without its threshold
        card = dataclasses.replace(renewed, history=card.history, scores=card.scores)
        write_checkpoint(unfinished, card, weights)
        task.finish(unfinished, split.tuning, progress)
    if split.test:
        _score(task, output, split.test, progress)
    return output


def default_run_folder(output: Path) -> Path:
    """Where a run is kept when nothing is said: OUTPUT.run beside OUTPUT.safetensors."""
    return output.with_suffix(".run")


def default_cache(run_folder: Path) -> Path:
    """Where prepared data are kept when nothing is said."""
    return Path(os.environ.get(CACHE_VARIABLE) or run_folder / "cache")


def _run_stage(run: _Run, index: int, done: list[_Done], progress: Progress) -> _Done:
    """Train one stage unless it is done; all processes come here together."""
    stage = run.chain.stages[index]
    fabric = make_fabric(run.device, stage.loop.precision)
    folder = run.folder.stage(index, stage.name)
    found, checkpoints = find_data(stage, run.data), _checkpoints(run, index, done)
    record: dict[str, Any] = {}
    if fabric.is_global_zero:
        record = checkpoints_record(checkpoints) | found.record(cache=run.cache)
        folder.begin(record)
    record = fabric.broadcast(record)
    kept = folder.weights(stage.selection.keep)
    if folder.done() is not None:
        if not kept.is_file():
            raise ProstateXferError(f"'{kept}' is gone, on which the run goes on: put it back, or --restart.")
        validate_checkpoint(kept)
        return _Done(stage.name, kept, found.split.test)
    options = {"cache": run.cache, "device": fabric.device}
    with fabric.rank_zero_first():  # the others find in the cache what the first has prepared
        preparing = SubProgress(progress, 0.0, _PREPARED_FRACTION)
        task = build_task(run.chain, stage, found.split, checkpoints, **options, progress=preparing)
    start = start_of(checkpoints)
    history = start.card.history if start else ()

    def keep(name: str, weights: dict[str, Tensor], selected: Selected) -> None:
        entry = history_entry(run.chain, stage, record, selected)
        write_checkpoint(folder.weights(name), dataclasses.replace(task.card(), history=(*history, entry)), weights)

    part = SubProgress(progress, _PREPARED_FRACTION, 1.0)
    fitted = fit(task, stage, seed=run.chain.seed, folder=folder.path, fabric=fabric, keep=keep, progress=part)
    if stage.selection.keep == "best" and fitted.best is None:
        raise ProstateXferError(
            f"The stage '{stage.name}' has no best weights: its metric '{stage.selection.metric}' was never a number."
        )
    if fabric.is_global_zero:
        task.finish(kept, found.split.tuning, WithoutBar(part))
        folder.finish(
            {
                "steps": fitted.steps,
                "kept": stage.selection.keep,
                "final": dataclasses.asdict(fitted.final),
                "best": fitted.best and dataclasses.asdict(fitted.best),
                "sha256": file_sha256(kept),
            }
        )
    fabric.barrier()
    return _Done(stage.name, kept, found.split.test, task)


def _task(run: _Run, index: int, done: list[_Done], progress: Progress) -> Task:
    """The task of a stage that is trained already, for scoring."""
    stage = run.chain.stages[index]
    found = find_data(stage, run.data)
    options = {"cache": run.cache, "device": run.device, "progress": progress}
    return build_task(run.chain, stage, found.split, _checkpoints(run, index, done), **options)


def _checkpoints(run: _Run, index: int, done: list[_Done]) -> dict[str, NamedCheckpoint]:
    """The checkpoints that a stage names."""
    selected = {entry.name: entry.path for entry in done}
    return named_checkpoints(run.chain.stages[index], selected, packages=run.folder.packages)


def _write_result(run: _Run, done: list[_Done], output: Path, progress: Progress) -> None:
    """Copy what the last stage selected to `output`, in the recipe's number format, and score it."""
    card, weights = read_checkpoint(done[-1].path)
    if run.chain.store == "fp16":
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    write_checkpoint(output, card, weights)
    if done[-1].test:
        task = done[-1].task or _task(run, len(done) - 1, done[:-1], progress)
        _score(task, output, done[-1].test, progress)
    progress.update("score", 1.0, f"{len(done[-1].test)} test case(s)")


def _score(task: Task, output: Path, cases: Sequence[Case], progress: Progress) -> None:
    """Put the results on the test cases of the last stage into the card."""
    scores = tuple(task.score(output, cases, progress))
    card, weights = read_checkpoint(output)
    write_checkpoint(output, dataclasses.replace(card, scores=scores), weights)
