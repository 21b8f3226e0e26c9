# SPDX-License-Identifier: Apache-2.0
"""nnU-Nets of real size: our sliding window against the bare calls of the network, and against nnU-Net's predictor.

The processor's time is what counts: one window takes a second, and other work on the machine moves the clock by more
than what is to be measured. Weights are random: neither the time nor the comparison of labels depends on them.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from nnunet_folders import PLAN_2D, PLAN_3D, Plan, results_folder
from nnunet_predictor import INSTALL, has_nnunet, nnunet_predictor
from rounds import best_times, report_times
from torch import Tensor, nn

from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.nnunet.sliding_window import study_logits
from ProstateXferLib.pipelines.windows import Windows
from ProstateXferLib.progress import SilentProgress

BARE, OURS, NNUNET = "bare network calls", "ours", "nnU-Net's predictor"
WITHIN = 1.05
"""Of the bare calls."""


@dataclass(frozen=True)
class Task:
    """What is timed: a plan, the shape of the prepared study, and the axes that are mirrored."""

    plan: Plan
    shape_zyx: tuple[int, int, int]
    mirrored: bool

    @property
    def title(self) -> str:
        """For people."""
        sides = " x ".join(map(str, self.shape_zyx))
        return f"{self.plan.name}, windows of {self.plan.patch}, {sides}{', mirrored' if self.mirrored else ''}"


# Part of a study where the whole one would take minutes a run: every window costs the same.
TASKS = (
    Task(PLAN_2D, (2, 320, 320), False),
    Task(PLAN_2D, (1, 320, 320), True),
    Task(PLAN_3D, (24, 128, 128), False),
    Task(PLAN_3D, (16, 128, 128), True),
)


def main(rounds: int) -> None:
    """Print the times of every task, and in how many voxels ours and nnU-Net's labels differ."""
    if not has_nnunet():
        print(f"\n{INSTALL}")
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            _compare(task, results_folder(Path(folder) / task.title, task.plan), max(2, rounds // 2))


def _compare(task: Task, folder: Path, rounds: int) -> None:
    network = load_checkpoint(folder).build()
    axes = tuple(range(len(task.plan.patch))) if task.mirrored else ()
    channels = torch.randn(1, *task.shape_zyx, generator=torch.Generator().manual_seed(1))
    contenders: dict[str, Callable[[], Tensor]] = {
        BARE: _bare(network, task, len(axes), channels),
        OURS: lambda: _ours(network, task, axes, channels, "fp32"),
    }
    if has_nnunet():
        predictor = nnunet_predictor(folder, mirror=task.mirrored)
        contenders[NNUNET] = lambda: predictor.predict_logits_from_preprocessed_data(channels)
    best = best_times(contenders, rounds)
    report_times(f"{task.title}, {torch.get_num_threads()} threads", best, BARE, {OURS: WITHIN})
    if has_nnunet():
        ratio, theirs = best[OURS].cpu / best[NNUNET].cpu, contenders[NNUNET]().argmax(0)
        print(f"  ours / nnU-Net's: x{best[OURS].wall / best[NNUNET].wall:.3f}, CPU x{ratio:.3f}  asked <= 1.00")
        off = {way: _ours(network, task, axes, channels, way).argmax(0) != theirs for way in ("fp16", "fp32")}
        told = ", ".join(f"{int(differs.sum())} added up in {way}" for way, differs in off.items())
        print(f"  labels that differ from nnU-Net's, of {theirs.numel()}: {told}")


def _bare(network: nn.Module, task: Task, axes: int, channels: Tensor) -> Callable[[], Tensor]:
    """Nothing but the network, as often as the windows and their mirrorings ask."""
    windows = Windows.over(task.shape_zyx, task.plan.patch)
    padded = windows.padded(channels)
    cut = [windows.cut(padded, [start]) for start in windows.starts]
    cut = [window[:, :, 0] for window in cut] if windows.planar else cut

    def run() -> Tensor:
        with torch.inference_mode():
            for window, _ in product(cut, range(2**axes)):
                logits = network(window)
        return logits

    return run


def _ours(network: nn.Module, task: Task, axes: tuple[int, ...], channels: Tensor, accumulate: str) -> Tensor:
    with torch.inference_mode():
        return study_logits(
            network,
            channels,
            task.plan.patch,
            classes=task.plan.classes,
            axes=axes,
            accumulate=accumulate,
            dtype=torch.float32,
            runner=AdaptiveRunner(network.to, torch.device("cpu"), 1, SilentProgress()),
            progress=SilentProgress(),
        )
