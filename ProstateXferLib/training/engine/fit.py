# SPDX-License-Identifier: Apache-2.0
"""The training loop of every stage of every recipe: recipes say what is trained, tasks say what is learned."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.engine.average import Average
from ProstateXferLib.training.engine.batches import Share, batches
from ProstateXferLib.training.engine.early_stopping import Best, Selected
from ProstateXferLib.training.engine.fabric import sum_over_processes
from ProstateXferLib.training.engine.logs import TRAIN, VALIDATION, Logs
from ProstateXferLib.training.engine.parameter_groups import (
    assign_parameters,
    frozen_modules,
    make_optimiser,
    may_fuse,
)
from ProstateXferLib.training.engine.progress_text import Pace, WithoutBar
from ProstateXferLib.training.engine.rates import rate_factor, stage_length, weight_decay_factor
from ProstateXferLib.training.engine.running_means import RunningMeans, refuse_loss
from ProstateXferLib.training.engine.seeds import seed_torch
from ProstateXferLib.training.engine.state import load_state, save_state
from ProstateXferLib.training.recipe.schema import Stage
from ProstateXferLib.training.tasks.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

REPORT_STEPS = 20
"""Steps between two lines of the log; what they tell is the mean of the steps between."""
STOP_CHECK_S = 2.0
"""About how often several processes agree on whether to stop: it makes GPUs wait, and torchrun kills after 30 s."""

Keep = Callable[[str, dict[str, Tensor], Selected], None]


@dataclass(frozen=True)
class Fitted:
    """How a stage ended.

    Attributes:
        steps: optimiser steps made.
        final: the weights at the end.
        best: the best validated ones, None where nothing was validated.
    """

    steps: int
    final: Selected
    best: Selected | None


def fit(
    task: Task, stage: Stage, *, seed: int, folder: Path, fabric: "Fabric", keep: Keep, progress: Progress
) -> Fitted:
    """Train a task as its stage says; going on from the folder's state where there is one.

    Args:
        task: what is learned. Its modules are moved to the device and trained in place.
        stage: schedule, optimiser, groups, loop and selection.
        seed: of everything that the learner draws.
        folder: the stage's folder, for state and logs.
        fabric: device, number format and processes (engine/fabric.py).
        keep: called in the first process with "best" or "final", the weights as `task.weights` names them, and what
            they are.
        progress: told the steps; asked whether to stop.

    Raises:
        ProstateXferError: a loss that is not finite; groups, metric or batch that do not fit; a damaged state.
        CancelledError: the user stopped; the state is saved.
    """
    loop = _Loop(task, stage, seed=seed, folder=folder, fabric=fabric, keep=keep, progress=progress)
    try:
        return loop.run()
    finally:
        loop.close()


class _Loop:
    """The state of one training; `run` is the loop."""

    def __init__(
        self, task: Task, stage: Stage, *, seed: int, folder: Path, fabric: "Fabric", keep: Keep, progress: Progress
    ) -> None:
        self._task, self._stage, self._seed, self._folder = task, stage, seed, folder
        self._fabric, self._keep, self._progress = fabric, keep, progress
        loop = stage.loop
        self._length = stage_length(stage.schedule, samples=len(task.samples), batch_size=loop.batch_size)
        self._share = Share(loop.batch_size, loop.accumulate, fabric.global_rank, fabric.world_size)
        if fabric.world_size > 1 and fabric.device.type == "cuda":  # else every GPU has statistics of its own
            nn.SyncBatchNorm.convert_sync_batchnorm(task.learner)
        assigned = assign_parameters(task.learner, stage.optimiser, stage.groups)
        fused = may_fuse(fabric.device, loop.precision)
        optimiser = make_optimiser(assigned, stage.optimiser, fused=fused)
        self._frozen = frozen_modules(task.learner)
        self._learner, self._optimiser = fabric.setup(task.learner, optimiser)
        self._plain_optimiser = optimiser
        self._average = Average(task.network, loop.ema)
        self._best = Best(stage.selection, loop.patience)
        self._means = RunningMeans()
        self._step = self._validated = 0
        self._logs: Logs | None = None
        self._resume()
        self._pace = Pace(self._step, self._length.total_steps)
        self._next_check = self._step

    def run(self) -> Fitted:
        """Steps and validations until the end."""
        total = self._length.total_steps
        pieces = batches(
            self._task.samples,
            self._share,
            first_step=self._step,
            last_step=total,
            workers=self._stage.loop.workers,
            pin=self._fabric.device.type == "cuda",
        )
        self._train_mode()
        while True:
            if self._validation_is_due():
                self._validate()
            if self._step == total or self._best.exhausted:
                break
            if self._stop_is_asked():
                self._save()
                raise self._cancelled()
            self._make_step([next(pieces) for _ in range(self._share.parts)])
            if self._step % REPORT_STEPS == 0 or self._step == total or self._epoch_ends():
                self._report()
            if self._step % self._stage.loop.save_steps == 0:
                self._save()
        return self._finish()

    def close(self) -> None:
        """Close the logs."""
        if self._logs is not None:
            self._logs.close()

    def _make_step(self, pieces: list[dict[str, Tensor]]) -> None:
        step, task, options = self._step, self._task, self._stage.optimiser
        total = self._length.total_steps
        rate, decay = rate_factor(self._stage.schedule, step, total), weight_decay_factor(options, step, total)
        for group in self._optimiser.param_groups:
            group["lr"] = options.learning_rate * group["factor"] * rate
            group["weight_decay"] = group["base_weight_decay"] * decay
        self._optimiser.zero_grad(set_to_none=True)
        for index, (piece, numbers) in enumerate(zip(pieces, self._share.numbers(step), strict=True)):
            piece = {key: value.to(self._fabric.device, non_blocking=True) for key, value in piece.items()}
            # By the sample's number, so that two processes draw what one would draw in two parts.
            seed_torch(self._fabric.device, self._seed, step, numbers[0])
            with self._fabric.no_backward_sync(self._learner, enabled=index + 1 < len(pieces)):
                loss, values = self._learner(piece, step)
                self._fabric.backward(loss / len(pieces))
            self._means.add({"loss": loss.detach(), **values})
        seed_torch(self._fabric.device, self._seed, step)
        task.after_backward(step)
        norm = self._fabric.clip_gradients(
            self._learner, self._optimiser, max_norm=options.clip_norm or math.inf, error_if_nonfinite=False
        )
        self._means.show(norm)
        self._optimiser.step()
        task.after_step(step)
        self._step = step + 1
        self._average.update(self._step)

    def _report(self) -> None:
        sums = sum_over_processes(self._means.sums(), self._fabric)
        self._means.clear()
        values = self._means.of_sums(sums)
        refuse_loss(values["loss"], self._step)
        groups = self._optimiser.param_groups
        rates = {
            f"learning_rate/{label}": max(g["lr"] for g in groups if g["label"] == label) for label in _labels(groups)
        }
        if self._logs is not None:
            self._logs.write(TRAIN, self._step, values | rates)
        fraction, text = self._pace.at(self._step, values["loss"])
        self._progress.update("train", fraction, text)

    def _validation_is_due(self) -> bool:
        if self._step == 0 or self._validated == self._step:
            return False
        every = self._length.steps_per_epoch * self._stage.loop.validate_epochs
        return self._step % every == 0 or self._step == self._length.total_steps

    def _epoch_ends(self) -> bool:
        return self._step % self._length.steps_per_epoch == 0

    def _validate(self) -> None:
        try:
            values = self._validated_values()
        except CancelledError as stop:
            self._save()
            raise self._cancelled() from stop
        self._train_mode()
        self._validated = self._step
        if values and self._logs is not None:
            self._logs.write(VALIDATION, self._step, values)

    def _validated_values(self) -> dict[str, float]:
        """Values of the averaged weights, from the first process; the best so far are kept."""
        values: dict[str, float] = {}
        with self._average.applied() as network, torch.no_grad():
            if self._fabric.is_global_zero:
                with self._fabric.autocast():
                    values = self._task.validate(network, WithoutBar(self._progress))
            values = self._fabric.broadcast(values)
            if not values and self._stage.selection.keep == "final":
                return values
            if self._best.offer(values, self._step) and self._fabric.is_global_zero:
                self._keep("best", self._task.weights(network), self._best.selected)
        return values

    def _finish(self) -> Fitted:
        self._save()
        latest = self._best.latest
        if latest is None or latest.step != self._step:
            latest = Selected(self._stage.selection.metric, None, self._step)
        if self._fabric.is_global_zero:
            with self._average.applied() as network:
                self._keep("final", self._task.weights(network), latest)
        return Fitted(self._step, latest, self._best.selected)

    def _stop_is_asked(self) -> bool:
        asked = self._progress.cancelled()
        if self._fabric.world_size == 1:
            return asked
        if self._step < self._next_check:
            return False
        answers = {"asked": float(asked), "step_s": self._pace.step_s(self._step) / self._fabric.world_size}
        answers = sum_over_processes(answers, self._fabric)
        self._next_check = self._step + min(100, max(1, int(STOP_CHECK_S / max(answers["step_s"], 1e-3))))
        return answers["asked"] > 0

    def _cancelled(self) -> CancelledError:
        return CancelledError(
            f"Cancelled after step {self._step} of {self._length.total_steps}: run the same command again to go on "
            "from there."
        )

    def _train_mode(self) -> None:
        self._learner.train()
        for module in self._frozen:
            module.eval()

    def _save(self) -> None:
        """Write the state; all processes come here together."""
        self._means.refuse_non_finite(self._step, but_norm=self._stage.loop.precision == "fp16")
        sums = sum_over_processes(self._means.sums(), self._fabric)
        if self._fabric.is_global_zero:
            state = {
                "step": self._step,
                "validated": self._validated,
                "learner": self._task.learner.state_dict(),
                "optimiser": self._plain_optimiser.state_dict(),
                "scaler": self._fabric.strategy.precision.state_dict(),
                "average": self._average.state_dict(),
                "best": self._best.state_dict(),
                "sums": sums,
            }
            save_state(self._folder, state)

    def _resume(self) -> None:
        first = self._fabric.is_global_zero
        state = load_state(self._folder)
        if state is not None:
            try:
                self._task.learner.load_state_dict(state["learner"])
                self._plain_optimiser.load_state_dict(state["optimiser"])
                self._fabric.strategy.precision.load_state_dict(state["scaler"])
                self._average.load_state_dict(state["average"])
            except (RuntimeError, ValueError, KeyError) as error:
                raise ProstateXferError(
                    f"The state in '{self._folder}' does not fit what the recipe builds now: begin anew with --restart."
                ) from error
            self._best.load_state_dict(state["best"])
            self._step, self._validated = state["step"], state["validated"]
            if first:  # the sums are those of all processes
                self._means.load(state["sums"], self._fabric.device)
        if first:
            self._logs = Logs(self._folder, step=self._step, validated=self._validated)


def _labels(groups: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(group["label"] for group in groups))
