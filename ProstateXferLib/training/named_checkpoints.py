# SPDX-License-Identifier: Apache-2.0
"""The files behind the checkpoints that a stage names: what an earlier stage selected, packages, paths and models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.checkpoints.registry import resolve
from ProstateXferLib.files import file_sha256
from ProstateXferLib.training.exchange.resume import checkpoint_of
from ProstateXferLib.training.recipe.checks import START, earlier_stage, names_of_checkpoints
from ProstateXferLib.training.recipe.schema import Stage


@dataclass(frozen=True)
class NamedCheckpoint:
    """A checkpoint and a name for it that tells no folder."""

    name: str
    path: Path

    @property
    def card(self) -> ModelCard:
        """Its model card."""
        return read_card(self.path)

    def record(self) -> dict[str, str]:
        """Name and sha256, for the history; of a package the package's name and its model's sha256."""
        return {"name": self.name, "sha256": file_sha256(self.path)}


def named_checkpoints(stage: Stage, selected: Mapping[str, Path], *, packages: Path) -> dict[str, NamedCheckpoint]:
    """Every checkpoint that a stage names, by the key that names it ("start.checkpoint", "settings.gram.teacher").

    Args:
        stage: the stage.
        selected: the selections of the stages before it by their names, in order.
        packages: folder into which the models of weights packages are unpacked, once they passed every check.

    Raises:
        ProstateXferError: there is no such stage or checkpoint, or a package fails a check.
    """
    found = {}
    for key, wanted in names_of_checkpoints(stage).items():
        earlier = earlier_stage(wanted, list(selected), key=key)
        if earlier is not None:
            found[key] = NamedCheckpoint(f"stage {earlier}", selected[earlier])
        else:
            path = resolve(wanted)
            found[key] = NamedCheckpoint(path.name, checkpoint_of(path, packages))
    return found


def start_of(checkpoints: Mapping[str, NamedCheckpoint]) -> NamedCheckpoint | None:
    """The one that the stage starts from."""
    return checkpoints.get(START)


def checkpoints_record(checkpoints: Mapping[str, NamedCheckpoint]) -> dict[str, object]:
    """{"start": name and sha256 or None}, and under "checkpoints" those that the settings name, where they do."""
    start = start_of(checkpoints)
    others = {key: named.record() for key, named in checkpoints.items() if key != START}
    return {"start": start and start.record()} | ({"checkpoints": others} if others else {})
