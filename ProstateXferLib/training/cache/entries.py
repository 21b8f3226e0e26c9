# SPDX-License-Identifier: Apache-2.0
"""Entries of a cache: folders of .npy arrays and a description, there whole or not at all, found by their key."""

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ProstateXferLib.errors import ProstateXferError

DESCRIPTION = "entry.json"


def entry_key(contents: Mapping[str, Any]) -> str:
    """The sha256 of what an entry is made from: plain values that go to JSON."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def read_entry(folder: Path) -> dict[str, Any] | None:
    """The description of an entry, or None where it is absent, damaged or half written.

    Only the description is read; of the arrays the file sizes are compared with the written ones.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in description["bytes"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return description if whole else None


def write_entry(folder: Path, write: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Make an entry: `write` fills an empty folder with files and returns the description; then it becomes `folder`.

    Two processes may make the same entry at once: the first whole one stays, and both go on with it.

    Raises:
        ProstateXferError: the folder is not writable or the disk is full.
    """
    with _new_folder(folder) as temporary:
        description = dict(write(temporary))
        description["bytes"] = {item.name: item.stat().st_size for item in sorted(temporary.iterdir())}
        (temporary / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    made = read_entry(folder)
    if made is None:
        raise ProstateXferError(f"The cache entry '{folder}' vanished while it was made: start again.")
    return made


def open_array(path: Path) -> np.ndarray:
    """A read-only memory map of an .npy file; nothing in the file can execute.

    Raises:
        ProstateXferError: the file is gone or damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ProstateXferError(
            f"The cached array '{path}' cannot be read ({error}): start again, it is then made anew."
        ) from error


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    temporary = folder.with_name(f".{uuid.uuid4().hex[:8]}-{folder.name[:16]}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _put_in_place(temporary, folder)
    except OSError as error:
        raise ProstateXferError(
            f"The cache entry '{folder}' could not be written ({error.strerror or error}): check free space and "
            "permissions."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename, unless another process was quicker; a damaged entry is moved away first, so that readers see no mix."""
    if read_entry(folder) is not None:
        return
    if folder.exists():
        former = folder.with_name(f".{uuid.uuid4().hex[:8]}-damaged")
        with contextlib.suppress(FileNotFoundError):  # another process has just moved it
            folder.rename(former)
        shutil.rmtree(former, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:
        if read_entry(folder) is None:
            raise
