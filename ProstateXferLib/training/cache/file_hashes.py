# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of input files, remembered so that a file that has not changed is not read again."""

import contextlib
import hashlib
import json
import time
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256, make_folder, write_text

_MEMORY = "file-hashes.json"
_YOUNG_SECONDS = 2.0
"""A file written this recently may change again within its time stamp's resolution, so its hash is not remembered."""


class FileHashes:
    """sha256 of files and DICOM folders; known by path, size and modification time, kept in `folder`.

    The memory is only an aid: processes that work side by side may overwrite each other's additions, which are then
    worked out again. Without a folder nothing is remembered.
    """

    def __init__(self, folder: Path | None) -> None:
        self._memory = None if folder is None else Path(folder) / _MEMORY
        self._known: dict[str, list] = {}
        self._added = False
        if self._memory is None:
            return
        # Damaged or absent: begin anew.
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._memory.read_text(encoding="utf-8"))
            self._known = known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str:
        """The sha256 of a file, or one over the names and contents of a folder's files (a DICOM series).

        Of an image whose header is a file of its own (.mhd, .nhdr) it is one over both files.

        Raises:
            ProstateXferError: it is not there or cannot be read.
        """
        path = Path(path)
        try:
            if path.is_dir():
                files = sorted(item for item in path.rglob("*") if item.is_file())
                parts = [f"{item.relative_to(path).as_posix()} {self._file(item)}" for item in files]
                return hashlib.sha256("\n".join(parts).encode()).hexdigest()
            if (voxels := _voxel_file(path)) is not None:
                return hashlib.sha256(f"{self._file(path)}\n{self._file(voxels)}".encode()).hexdigest()
            return self._file(path)
        except OSError as error:
            raise ProstateXferError(f"'{path}' cannot be read ({error.strerror}): correct the data set.") from error

    def save(self) -> None:
        """Write what was learned beside the cache's entries."""
        if self._added and self._memory is not None:
            make_folder(self._memory.parent)
            write_text(self._memory, json.dumps(self._known))
            self._added = False

    def _file(self, path: Path) -> str:
        place, state = str(path.absolute()), path.stat()
        stamp = [state.st_size, state.st_mtime_ns]
        known = self._known.get(place)
        if isinstance(known, list) and len(known) == 3 and known[:2] == stamp:
            return known[2]
        digest = file_sha256(path)
        if time.time() - state.st_mtime > _YOUNG_SECONDS:
            self._known[place] = [*stamp, digest]
            self._added = True
        return digest


def _voxel_file(path: Path) -> Path | None:
    """The second file of an image whose header is a file of its own; None where there is none."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return None
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, name = line.replace("=", ":", 1).partition(":")
        if key.strip().lower() in ("elementdatafile", "data file") and name.strip() not in ("", "LOCAL"):
            return path.with_name(name.strip())
    return None
