# SPDX-License-Identifier: Apache-2.0
"""Changes to a recipe from the command line: --set, --fold, --steps."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.recipe.files import parse_yaml
from ProstateXferLib.training.recipe.schema import Chain


def with_settings(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A copy of a recipe's plain values with "a.b.c=VALUE" put in; VALUE is YAML, a stage goes by name or number.

    Raises:
        ProstateXferError: no "=", a stage or list entry that is not there, or a way through a plain value.
    """
    values = copy.deepcopy(values)
    for change in changes:
        place, equals, text = change.partition("=")
        keys = place.strip().split(".")
        if not equals or not all(keys):
            raise ProstateXferError(f"--set takes KEY.KEY=VALUE (stages.NAME.loop.batch_size=4), not '{change}'.")
        value = parse_yaml(text, what=f"The value of --set {place}")
        inner: Any = values
        for depth, key in enumerate(keys[:-1]):
            inner = _step(inner, key, change=change, in_stages=keys[:depth] == ["stages"])
        _put(inner, keys[-1], value, change=change)
    return values


def with_fold(chain: Chain, fold: int) -> Chain:
    """The recipe with this fold as validation in every stage whose split has folds.

    Raises:
        ProstateXferError: no stage has folds, or not that many.
    """
    if not any(stage.split.rule in ("nnunet", "stratified") for stage in chain.stages):
        raise ProstateXferError(f"The recipe '{chain.name}' has no folds: leave --fold out.")
    stages = tuple(
        dataclasses.replace(stage, split=dataclasses.replace(stage.split, fold=fold))
        if stage.split.rule in ("nnunet", "stratified")
        else stage
        for stage in chain.stages
    )
    return dataclasses.replace(chain, stages=stages)


def with_step_limit(chain: Chain, steps: int) -> Chain:
    """The recipe with every stage ended after `steps` optimiser steps; warm-up and decay are shortened with it.

    Raises:
        ProstateXferError: `steps` is below 1.
    """
    stages = tuple(
        dataclasses.replace(stage, schedule=dataclasses.replace(stage.schedule, max_steps=steps))
        for stage in chain.stages
    )
    return dataclasses.replace(chain, stages=stages)


def _step(inner: Any, key: str, *, change: str, in_stages: bool) -> Any:
    if isinstance(inner, dict):
        if inner.get(key) is None:
            inner[key] = {}
        return inner[key]
    return inner[_place(inner, key, change=change, in_stages=in_stages)]


def _put(inner: Any, key: str, value: Any, *, change: str) -> None:
    if isinstance(inner, dict):
        inner[key] = value
    else:
        inner[_place(inner, key, change=change, in_stages=False)] = value


def _place(inner: Any, key: str, *, change: str, in_stages: bool) -> int:
    if not isinstance(inner, list):
        raise ProstateXferError(f"--set {change} cannot be done: there is no '{key}' in a plain value.")
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in inner] if in_stages else []
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(inner):
        return int(key)
    known = ", ".join(map(str, names)) if names else f"0 to {len(inner) - 1}"
    raise ProstateXferError(f"--set {change} cannot be done: '{key}' is none of {known}.")
