# SPDX-License-Identifier: Apache-2.0
"""Every fold of a route, trained once; the fold that validates best stands for the route."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder
from ProstateXferLib.progress import Progress, SubProgress, raise_if_cancelled
from ProstateXferLib.training.finished_run import drop_weights_of_run
from ProstateXferLib.training.recipe.schema import Chain

Train = Callable[[Chain, Path, Progress], Path]
"""Runs a recipe and writes its checkpoint (training.chain.run_chain with data, device and cache filled in)."""


@dataclass(frozen=True)
class TrainedFold:
    """One run: its checkpoint and the validation value that chose its weights (mean Dice of slices, a share of 1)."""

    fold: int
    checkpoint: Path
    validation: float


@dataclass(frozen=True)
class TrainedRoute:
    """All folds of one route."""

    folds: tuple[TrainedFold, ...]

    @property
    def best(self) -> TrainedFold:
        """The fold with the highest validation value, which is tested and handed on; of equal ones the first."""
        return max(self.folds, key=lambda one: (one.validation, -one.fold))

    @property
    def mean(self) -> float:
        """Mean validation value."""
        return float(np.mean([one.validation for one in self.folds]))

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds (of the sample: divided by n - 1)."""
        return float(np.std([one.validation for one in self.folds], ddof=1))


def train_folds(
    recipe_of: Callable[[int], Chain], folds: int, folder: Path, *, train: Train, progress: Progress
) -> TrainedRoute:
    """Train the folds that are not trained yet.

    Args:
        recipe_of: fold -> recipe.
        folds: their number.
        folder: `fold-0.safetensors` and so on are written there, with the runs' logs and records beside.
        train: what trains.
        progress: told every run.

    Raises:
        ProstateXferError: what training raises, or a run without a validation value.
        CancelledError: the user stopped; the same call goes on from there.
    """
    make_folder(folder)
    trained = []
    for fold in range(folds):
        raise_if_cancelled(progress)
        output = folder / f"fold-{fold}.safetensors"
        if not output.is_file():
            train(recipe_of(fold), output, SubProgress(progress, fold / folds, (fold + 1) / folds))
            drop_weights_of_run(output)
        trained.append(TrainedFold(fold, output, _validation_of(output)))
    return TrainedRoute(tuple(trained))


def _validation_of(checkpoint: Path) -> float:
    history = read_card(checkpoint).history
    value = history[-1].get("selected", {}).get("value") if history else None
    if not isinstance(value, int | float):
        raise ProstateXferError(
            f"'{checkpoint}' does not say how well it validated: remove it, and let the study train it again."
        )
    return float(value)
