# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: the recipe it belongs to, one folder a stage, and a lock against a second process."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, write_text
from ProstateXferLib.training.engine.state import remove_leftovers
from ProstateXferLib.training.recipe.files import read_yaml
from ProstateXferLib.training.recipe.reading import chain_from, resolved
from ProstateXferLib.training.recipe.schema import Chain

RECIPE_FILE, LOCK_FILE, SPLIT_FILE, DONE_FILE = "recipe.yaml", "lock", "split.json", "done.json"
_MISSING = object()


@dataclass(frozen=True)
class StageFolder:
    """One stage's folder: `stages/01-NAME`."""

    path: Path

    def weights(self, kept: str) -> Path:
        """The checkpoint "best" or "final"."""
        return self.path / f"{kept}.safetensors"

    def done(self) -> dict[str, Any] | None:
        """How the stage ended; None while it has not."""
        return _read_json(self.path / DONE_FILE)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Mark the stage as done."""
        write_text(self.path / DONE_FILE, json.dumps(record, indent=1))

    def begin(self, record: Mapping[str, Any]) -> None:
        """Make the folder for a stage on these data, or go on in one that is of the same.

        Raises:
            ProstateXferError: the folder was made with other cases, another split or another start.
        """
        make_folder(self.path)
        remove_leftovers(self.path)
        former = _read_json(self.path / SPLIT_FILE)
        record = json.loads(json.dumps(record))
        if former is None:
            write_text(self.path / SPLIT_FILE, json.dumps(record, indent=1))
            return
        if difference := first_difference(former, record):
            place, then, now = difference
            raise ProstateXferError(
                f"'{self.path}' was begun with other data or start ({place}: {_short(then)} then, {_short(now)} now): "
                "put the former ones back, or begin anew with --restart."
            )


@dataclass(frozen=True)
class RunFolder:
    """Everything that a run keeps (docs/training.md, "Run folder")."""

    path: Path

    def stage(self, index: int, name: str) -> StageFolder:
        """The folder of stage `index` (0 is the first)."""
        return StageFolder(self.path / "stages" / f"{index + 1:02d}-{name}")

    @property
    def packages(self) -> Path:
        """Where the models of weights packages are unpacked, named by their sha256."""
        return self.path / "packages"

    def begin(self, chain: Chain, *, restart: bool) -> None:
        """Take the folder for this recipe, or go on in one that is of the same.

        Raises:
            ProstateXferError: it belongs to another recipe, or holds something else.
        """
        recipe = self.path / RECIPE_FILE
        if restart:
            shutil.rmtree(self.path / "stages", ignore_errors=True)
            recipe.unlink(missing_ok=True)
        remove_leftovers(self.path)
        if not recipe.is_file():
            if (self.path / "stages").exists():
                raise ProstateXferError(
                    f"'{self.path}' holds stages of no recipe: choose another folder, or --restart."
                )
            write_text(recipe, _yaml(resolved(chain)))
            return
        if difference := first_difference(_as_read_now(recipe), resolved(chain)):
            place, then, now = difference
            raise ProstateXferError(
                f"'{self.path}' belongs to another recipe ({place}: {_short(then)} there, {_short(now)} here): choose "
                "another output or --run folder, or begin anew with --restart."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other processes; a killed holder lets go by itself.

        Raises:
            ProstateXferError: another process trains here.
        """
        make_folder(self.path)
        with (self.path / LOCK_FILE).open("a+b") as stream:
            try:
                _lock(stream.fileno())
            except OSError as error:
                raise ProstateXferError(
                    f"Another process trains in '{self.path}': wait for it, or choose another folder with --run."
                ) from error
            yield


def _as_read_now(recipe: Path) -> dict[str, Any]:
    """A kept recipe with defaults for keys that a later version has added: they change nothing about the run."""
    values = read_yaml(recipe)
    try:
        return resolved(chain_from(values, where=recipe.name))
    except ProstateXferError:  # an earlier version's keys; what differs is told
        return values


def first_difference(then: Any, now: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """Where two plain values first differ, and what stands there in each; None where they are equal."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*now, *then)):
            inner = f"{place}.{key}" if place else str(key)
            if found := first_difference(then.get(key, _MISSING), now.get(key, _MISSING), inner):
                return found
        return None
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return next(filter(None, (first_difference(a, b, f"{place}[{i}]") for i, (a, b) in pairs)), None)
    return None if then == now else (place, then, now)


def _short(value: Any) -> str:
    text = "nothing" if value is _MISSING else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _lock(number: int) -> None:
    # lockf's locks belong to the process and end with it; flock's would live on in forked workers of a killed one.
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _yaml(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProstateXferError(f"'{path}' cannot be read: begin the training anew with --restart.") from error
