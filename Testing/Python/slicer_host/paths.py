# SPDX-License-Identifier: Apache-2.0
"""Where the module under test lies: in the source tree, or in a built or installed one."""

import os
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[3]


def moduleFolder() -> Path:
    """The folder with ProstateXfer.py: PROSTATEXFER_MODULE_DIR, else the repository's."""
    return Path(os.environ.get("PROSTATEXFER_MODULE_DIR", _REPOSITORY / "ProstateXfer")).resolve()


def useModule() -> None:
    """Make ProstateXferSlicer importable; with PROSTATEXFER_MODULE_DIR, take ProstateXferLib from that tree as well."""
    if str(moduleFolder()) in sys.path:
        return
    sys.path.insert(0, str(moduleFolder()))  # as Slicer does with the folder of a scripted module
    if "PROSTATEXFER_MODULE_DIR" in os.environ:
        _useInstalledLibrary()


def _useInstalledLibrary() -> None:
    folders = (moduleFolder(), moduleFolder().parent)
    root = next((folder for folder in folders if (folder / "ProstateXferLib" / "__init__.py").is_file()), None)
    if root is None:
        raise FileNotFoundError(f"there is no ProstateXferLib beside or above '{moduleFolder()}'")
    loaded = sys.modules.get("ProstateXferLib")
    if loaded is not None and Path(loaded.__file__).resolve().parents[1] != root:
        raise ImportError(f"ProstateXferLib was imported from '{loaded.__file__}' before, not from '{root}'")
    sys.path.insert(0, str(root))
