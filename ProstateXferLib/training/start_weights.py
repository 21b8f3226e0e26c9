# SPDX-License-Identifier: Apache-2.0
"""The weights that a stage begins with, cut as its recipe says; the task puts them into its network."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import read_checkpoint
from ProstateXferLib.checkpoints.registry import resolve
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.recipe.schema import Start


def read_start(start: Start, path_or_name: str | Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Card and weights of a checkpoint, cut by `start.parts` and `start.drop`.

    Args:
        start: what is taken.
        path_or_name: the checkpoint, where `start.checkpoint` names a stage its file.

    Raises:
        ProstateXferError: no such checkpoint, damaged, or nothing in it has a part's or a dropped name.
    """
    card, weights = read_checkpoint(resolve(path_or_name))
    return card, cut_weights(weights, start, source=card.name)


def cut_weights(weights: Mapping[str, Tensor], start: Start, *, source: str) -> dict[str, Tensor]:
    """The weights whose names begin with one of `parts` (all where there are none) and contain none of `drop`.

    Raises:
        ProstateXferError: a part or a dropped name occurs nowhere: misspelt, it would be passed over in silence.
    """
    for part in start.parts:
        if not any(name.startswith(part) for name in weights):
            raise ProstateXferError(f"No weight of '{source}' begins with '{part}' (start.parts): {_some(weights)}.")
    taken = {name: value for name, value in weights.items() if not start.parts or name.startswith(start.parts)}
    for part in start.drop:
        if not any(part in name for name in taken):
            raise ProstateXferError(f"No weight of '{source}' contains '{part}' (start.drop): {_some(taken)}.")
    return {name: value for name, value in taken.items() if not any(part in name for part in start.drop)}


def _some(weights: Mapping[str, Tensor]) -> str:
    names = list(weights)
    return f"the names are like {', '.join(names[:: max(1, len(names) // 4)][:4])}"
