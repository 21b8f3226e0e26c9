# SPDX-License-Identifier: Apache-2.0
"""The tasks that a recipe may name. Importing this imports none of them: they are found when a recipe uses them."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class TaskKind:
    """Where a task is written, each as "module:name".

    Attributes:
        settings: the frozen dataclass that a stage's `settings` are read into.
        build: `build(context: StageContext) -> Task`.
    """

    settings: str
    build: str


TASKS: dict[str, TaskKind] = {
    "segmentation": TaskKind(
        settings="ProstateXferLib.training.tasks.segmentation_settings:SegmentationSettings",
        build="ProstateXferLib.training.tasks.segmentation:build",
    ),
    "self_supervision": TaskKind(
        settings="ProstateXferLib.training.tasks.self_supervision_settings:SelfSupervisionSettings",
        build="ProstateXferLib.training.tasks.self_supervision:build",
    ),
    "synthesis": TaskKind(
        settings="ProstateXferLib.training.tasks.synthesis_settings:SynthesisSettings",
        build="ProstateXferLib.training.tasks.synthesis:build",
    ),
}
"""Task name in a recipe -> where it is written. Only what stands here can be run: a recipe names no modules."""


def task_kind(name: str) -> TaskKind:
    """The task of that name.

    Raises:
        ProstateXferError: there is none.
    """
    if name not in TASKS:
        close = get_close_matches(name, TASKS, n=1)
        known = f"did you mean '{close[0]}'?" if close else f"the tasks are {', '.join(TASKS) or '(none)'}."
        raise ProstateXferError(f"There is no task '{name}': {known}")
    return TASKS[name]


def settings_class(name: str) -> type:
    """The dataclass of a task's settings."""
    return _found(task_kind(name).settings)


def task_builder(name: str) -> Callable[[Any], Any]:
    """The function that builds a task from its `StageContext`."""
    return _found(task_kind(name).build)


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
