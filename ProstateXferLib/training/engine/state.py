# SPDX-License-Identifier: Apache-2.0
"""The file from which a killed run goes on: whole or not there, and read without executing anything."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file

STATE_FILE = "state.pt"
_VERSION = 1


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write plain values and tensors to the folder's state file; a kill at any moment leaves the former one whole."""
    with atomic_file(folder / STATE_FILE) as temporary, temporary.open("wb") as stream:
        torch.save({"version": _VERSION, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())  # renamed only when it is on the disk: a power cut must not leave an empty file


def load_state(folder: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, tensors on the CPU; None where there is none yet.

    Raises:
        ProstateXferError: the file is damaged or of another version.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    damaged = f"'{path}' cannot be read: begin the training anew with --restart."
    if not zipfile.is_zipfile(path):  # torch's old format has readers that fail in a dozen ways
        raise ProstateXferError(damaged)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise ProstateXferError(damaged) from error
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise ProstateXferError(f"'{path}' is of another version: begin the training anew with --restart.")
    return state


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote (files.atomic_file names them)."""
    for path in folder.glob(".????????-*"):
        path.unlink(missing_ok=True)
