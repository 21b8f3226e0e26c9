# SPDX-License-Identifier: Apache-2.0
"""Reads a recipe strictly: file, base, changes from the command line, types, then what must hold between the keys."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.recipe.checks import check_chain
from ProstateXferLib.training.recipe.files import find_recipe, read_merged
from ProstateXferLib.training.recipe.overrides import with_fold, with_settings, with_step_limit
from ProstateXferLib.training.recipe.schema import Chain
from ProstateXferLib.training.recipe.typed import plain, typed
from ProstateXferLib.training.tasks.registry import settings_class, task_kind


def read_recipe(
    path_or_name: str | Path, *, changes: Sequence[str] = (), fold: int | None = None, steps: int | None = None
) -> Chain:
    """Read a recipe file, or one that comes with ProstateXfer by its name.

    Args:
        path_or_name: a YAML file, "mr_dinov3/frozen", or the last part of such a name where only one recipe has it.
        changes: "stages.NAME.loop.batch_size=4" and the like, made before anything is checked.
        fold: validate this fold in every stage whose split has folds.
        steps: optimiser steps after which every stage ends.

    Raises:
        ProstateXferError: one sentence that names the place of what is unknown, missing, of a wrong type or senseless.
    """
    path = find_recipe(path_or_name)
    chain = chain_from(with_settings(read_merged(path), changes), where=path.name)
    if fold is not None:
        chain = with_fold(chain, fold)
    return chain if steps is None else with_step_limit(chain, steps)


def chain_from(values: dict[str, Any], *, where: str) -> Chain:
    """A chain from plain values, with all checks that need no file; `where` begins every complaint."""
    stages = values.get("stages")
    if isinstance(stages, list):  # settings may be left out where all of a task's have a default
        values = values | {"stages": [{"settings": {}, **s} if isinstance(s, dict) else s for s in stages]}
    chain = typed(Chain, values, where=where)
    read = []
    for index, stage in enumerate(chain.stages):
        place = f"{where}: stages[{index}]"
        try:
            task_kind(stage.task)
        except ProstateXferError as error:
            raise ProstateXferError(f"{place}.task: {error}") from error
        settings = typed(settings_class(stage.task), stage.settings, where=f"{place}.settings")
        read.append(dataclasses.replace(stage, settings=settings))
    chain = dataclasses.replace(chain, stages=tuple(read))
    try:
        check_chain(chain)
    except ProstateXferError as error:
        raise ProstateXferError(f"{where}: {error}") from error
    return chain


def resolved(chain: Chain) -> dict[str, Any]:
    """The recipe as plain values with every default spelt out; `chain_from` reads it back."""
    return plain(chain)


def recipe_sha256(chain: Chain) -> str:
    """SHA-256 over the resolved recipe: equal for equal recipes, however their files were written."""
    return hashlib.sha256(json.dumps(resolved(chain), sort_keys=True).encode()).hexdigest()
