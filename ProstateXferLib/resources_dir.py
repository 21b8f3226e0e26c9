# SPDX-License-Identifier: Apache-2.0
"""Where the shipped models and terminologies lie: elsewhere in an installed package than in a checkout or Slicer."""

import os
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

VARIABLE = "PROSTATEXFER_RESOURCES"
_PACKAGE = Path(__file__).resolve().parent


def resources_dir() -> Path:
    """The folder that holds `Models/` (and `Terminology/`).

    Looked for in the environment variable PROSTATEXFER_RESOURCES, inside the installed package, and beside the package
    (a source checkout, or Slicer's `qt-scripted-modules`).
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser()
        if not _holds_models(folder):
            raise ProstateXferError(
                f"{VARIABLE} names {folder}, but there is no folder Models in it: correct the variable or unset it."
            )
        return folder.resolve()
    candidates = (_PACKAGE / "resources", _PACKAGE.parent / "Resources")
    for folder in candidates:
        if _holds_models(folder):
            return folder
    raise ProstateXferError(
        f"The shipped models were not found in {' or '.join(str(folder) for folder in candidates)}: "
        f"install ProstateXfer again, or set {VARIABLE} to the folder that holds Models."
    )


def _holds_models(folder: Path) -> bool:
    # Slicer's qt-scripted-modules/Resources exists for other modules, too: only Models/ tells that it is ours.
    return (folder / "Models").is_dir()
