# SPDX-License-Identifier: Apache-2.0
"""Whether a cache will fit on its disk, asked before hours of work."""

import shutil
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

_SPARE = 1.02
"""File systems need a little more than the bytes that are written."""


def require_room(folder: Path, needed_bytes: int, *, what: str, instead: str) -> None:
    """Raise ProstateXferError unless `needed_bytes` more fit into `folder`, which exists.

    Args:
        folder: of the cache.
        needed_bytes: what will be written.
        what: subject of the sentence ("The encoder's tokens").
        instead: what the user can do besides freeing space ("store them as fp16").
    """
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes * _SPARE > free_bytes:
        raise ProstateXferError(
            f"{what} need {needed_bytes / 1e9:.3g} GB in '{folder}', where {free_bytes / 1e9:.3g} GB are free: free "
            f"space, choose another cache folder, or {instead}."
        )
