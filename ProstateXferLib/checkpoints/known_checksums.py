# SPDX-License-Identifier: Apache-2.0
"""sha256s of large files that were computed before, kept from one run to the next in ~/.prostatexfer/checksums.json.

Finding an ensemble's members takes the sha256 of gigabytes, which the panel must not wait for whenever Slicer starts.
Only lists rely on it: whoever runs a model hashes its file anew (`load_checkpoint`).
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from ProstateXferLib.checkpoints.file_states import FileStates
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, write_text

_WORTH_BYTES = 20_000_000
"""Smaller ones are hashed in less time than a person notices."""
_MOST = 1000
_SHA256 = re.compile("[0-9a-f]{64}")


def known_checksum(states: FileStates, compute: Callable[[], str]) -> str:
    """What `compute` gave when the files were in these states, else what it gives now, which is then kept.

    Where the file cannot be read or written, it is computed in every run.
    """
    if sum(size for *_, size in states) < _WORTH_BYTES:
        return compute()
    key = hashlib.sha256(repr(states).encode()).hexdigest()  # without the names of anyone's folders
    found = _read().get(key)
    return found if found is not None else _kept(key, compute())


def _file() -> Path:
    return Path.home() / ".prostatexfer" / "checksums.json"


def _read() -> dict[str, str]:
    try:
        values = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    sound = isinstance(values, dict) and all(
        isinstance(value, str) and _SHA256.fullmatch(value) for value in values.values()
    )
    return values if sound else {}


def _kept(key: str, sha256: str) -> str:
    values = {**_read(), key: sha256}
    recent = dict(list(values.items())[-_MOST:])
    try:
        make_folder(_file().parent)
        write_text(_file(), json.dumps(recent, indent=0) + "\n")
    except ProstateXferError:  # a home that cannot be written, or a full disk: nothing that a list should fail for
        return sha256
    return sha256
