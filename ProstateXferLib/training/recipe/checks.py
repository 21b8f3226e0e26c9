# SPDX-License-Identifier: Apache-2.0
"""What must hold between the keys of a recipe, and between a recipe and the disk, told before anything runs."""

import math
import re
from pathlib import Path

from ProstateXferLib.checkpoints.registry import resolve
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.exchange.container import is_container
from ProstateXferLib.training.exchange.verify import verify_package
from ProstateXferLib.training.recipe.schema import Chain, Stage

PREVIOUS, START = "{previous}", "start.checkpoint"
_STAGE = re.compile(r"\{stage:(.*)\}$")
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*$")
LAYOUTS_WITHOUT_FOLDER = ("phantoms",)


def check_chain(chain: Chain) -> None:
    """Raise ProstateXferError, naming the place, where the keys of a recipe do not fit together."""
    names: list[str] = []
    for index, stage in enumerate(chain.stages):
        place = f"stages[{index}]"
        if not _STAGE_NAME.match(stage.name):
            raise ProstateXferError(
                f"{place}.name '{stage.name}' names a folder: use letters, digits, '-' and '_' alone."
            )
        _check_start(stage, names, place)
        _check_data(stage, place)
        _check_selection(stage, place)
        names.append(stage.name)


def names_of_checkpoints(stage: Stage) -> dict[str, str]:
    """What a stage calls the checkpoints that it needs, by key: "start.checkpoint", and those that its settings name.

    Settings that name checkpoints have a property `checkpoints`: {key within the settings: name}.
    """
    start = {} if stage.start.checkpoint is None else {START: stage.start.checkpoint}
    return start | {f"settings.{key}": name for key, name in getattr(stage.settings, "checkpoints", {}).items()}


def earlier_stage(wanted: str, earlier: list[str], *, key: str) -> str | None:
    """Name of the earlier stage whose selection is wanted; None where a file or a model is.

    Args:
        wanted: the name of a checkpoint in the recipe.
        earlier: names of the stages before, in order.
        key: where it stands, for the complaint.

    Raises:
        ProstateXferError: there is no such earlier stage.
    """
    if not wanted.startswith("{"):
        return None
    named = _STAGE.match(wanted)
    name = earlier[-1] if wanted == PREVIOUS and earlier else named and named[1]
    if name not in earlier:
        known = ", ".join(earlier) or "none: this is the first"
        raise ProstateXferError(f"{key} '{wanted}' is no earlier stage ({known}): use {PREVIOUS} or {{stage:NAME}}.")
    return name


def check_files(chain: Chain, data: Path) -> None:
    """Raise ProstateXferError where a data folder or a checkpoint that the recipe names is not there, or damaged.

    Args:
        chain: the recipe.
        data: folder that the sources' paths are relative to.
    """
    for index, stage in enumerate(chain.stages):
        for number, source in enumerate(stage.data):
            if source.layout not in LAYOUTS_WITHOUT_FOLDER and not (data / source.path).exists():
                raise ProstateXferError(
                    f"stages[{index}].data[{number}]: there is no data folder '{data / source.path}': give the folder "
                    "that it lies in with --data."
                )
        for key, wanted in names_of_checkpoints(stage).items():
            if not wanted.startswith("{"):
                _check_checkpoint(wanted, f"stages[{index}].{key}")


def _check_checkpoint(wanted: str, place: str) -> None:
    """There is such a file or model, and a weights package passes its checks: now, not when its stage begins."""
    try:
        path = resolve(wanted)
        if is_container(path):
            verify_package(path).require()
    except ProstateXferError as error:
        raise ProstateXferError(f"{place}: {error}") from error


def _check_start(stage: Stage, earlier: list[str], place: str) -> None:
    try:
        for key, wanted in names_of_checkpoints(stage).items():
            earlier_stage(wanted, earlier, key=key)
    except ProstateXferError as error:
        raise ProstateXferError(f"{place}.{error}") from error
    if stage.start.checkpoint is None and (stage.start.parts or stage.start.drop):
        raise ProstateXferError(f"{place}.start takes parts of no checkpoint: name one, or leave parts and drop out.")


def _check_data(stage: Stage, place: str) -> None:
    if all(source.test_only for source in stage.data):
        raise ProstateXferError(f"{place}.data has nothing to train on: add a source that is not test_only.")
    for number, source in enumerate(stage.data):
        if not (math.isfinite(source.weight) and source.weight > 0):
            raise ProstateXferError(f"{place}.data[{number}].weight must be above zero, not {source.weight}.")
    both = set(stage.split.validation) & set(stage.split.test)
    if both:
        raise ProstateXferError(f"{place}.split has the case '{min(both)}' in both validation and test: remove one.")
    if any(not any(group.match) for group in stage.groups):
        raise ProstateXferError(f"{place}.groups must each match a part of a name: an empty one is every parameter.")


def _check_selection(stage: Stage, place: str) -> None:
    held_out = stage.split.rule in ("nnunet", "stratified") or bool(stage.split.validation)
    if held_out:
        return
    if stage.selection.keep == "best":
        raise ProstateXferError(
            f"{place}.selection keeps the best, but no case validates: give the split validation cases or keep 'final'."
        )
    if stage.loop.patience:
        raise ProstateXferError(
            f"{place}.loop.patience stops early by validation, but no case validates: give the split validation cases "
            "or no patience."
        )
