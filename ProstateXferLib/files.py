# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and their fingerprints."""

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` with the same ending; rename it on success, remove it on failure.

    Raises:
        ProstateXferError: the folder is missing or not writable, or the disk is full.
    """
    path = Path(path)
    require_folder_of(path)
    # The full ending (.seg.nrrd, .nii.gz) is kept because writers choose the format by it.
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise ProstateXferError(
            f"'{path}' could not be written ({error.strerror or error}): check free space and permissions."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_folder_of(path: Path) -> None:
    """Raise ProstateXferError unless the folder that a file is to be written into exists; ask it before long work."""
    if not Path(path).parent.is_dir():
        raise ProstateXferError(f"The folder '{Path(path).parent}' does not exist: create it or choose another.")


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it; one that exists is as good."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProstateXferError(f"Cannot make the folder '{folder}' ({error.strerror}): choose another.") from error
    return Path(folder)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
