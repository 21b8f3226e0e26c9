# SPDX-License-Identifier: Apache-2.0
"""Where the files that a child works on lie meanwhile."""

import tempfile
from pathlib import Path

import slicer


def temporaryPath() -> str:
    """Slicer's own temporary folder, which the user can choose in its settings; the system's elsewhere."""
    path = getattr(getattr(slicer, "app", None), "temporaryPath", None)
    return path if path and Path(path).is_dir() else tempfile.gettempdir()
