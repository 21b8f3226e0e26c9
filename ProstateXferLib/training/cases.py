# SPDX-License-Identifier: Apache-2.0
"""Folders of labelled cases: one folder a case, t2w.nii.gz beside gland.nii.gz (and lesion.nii.gz)."""

import os
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

DATA_VARIABLE = "PROSTATEXFER_DATA"


@dataclass(frozen=True)
class Case:
    """Paths of one labelled case; `lesion` is None where there is none."""

    name: str
    image: Path
    gland: Path
    lesion: Path | None


def data_root(chosen: str | Path | None) -> Path:
    """The folder that recipes' data paths are relative to: the argument, $PROSTATEXFER_DATA, or the current folder."""
    return Path(chosen or os.environ.get(DATA_VARIABLE) or ".")


def labelled_cases(folder: Path) -> list[Case]:
    """All cases of a folder, sorted by name.

    Raises:
        ProstateXferError: the folder does not exist or holds no case.
    """
    if not folder.is_dir():
        raise ProstateXferError(f"There is no data folder '{folder}': give the right one with --data.")
    cases = []
    for path in sorted(folder.iterdir()):
        image, gland, lesion = (path / f"{name}.nii.gz" for name in ("t2w", "gland", "lesion"))
        if image.is_file() and gland.is_file():
            cases.append(Case(path.name, image, gland, lesion if lesion.is_file() else None))
    if not cases:
        raise ProstateXferError(f"'{folder}' holds no case (CASE/t2w.nii.gz with CASE/gland.nii.gz beside it).")
    return cases
