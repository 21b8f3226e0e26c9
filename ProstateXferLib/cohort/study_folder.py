# SPDX-License-Identifier: Apache-2.0
"""A study's folder: it appears whole or not at all, and nothing that is not ours is ever replaced."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ProstateXferLib.cohort.result import STUDY_FILE, StudyResult
from ProstateXferLib.errors import ProstateXferError

OUTPUT_FILES = {
    "segmentation": "segmentation.seg.nrrd",
    "uncertainty": "uncertainty.nii.gz",
    "samples": "samples.seg.nrrd",
    "ct-from-mr": "ct-from-mr.nii.gz",
    "ct-from-cbct": "ct-from-cbct.nii.gz",
    "ct-from-mr-difference": "ct-from-mr-difference.nii.gz",
    "ct-from-cbct-difference": "ct-from-cbct-difference.nii.gz",
    "measurements": "measurements.csv",
}
REPORT_SUFFIX = ".html"
_LEFT_BY_FILE_MANAGERS = {"thumbs.db", "desktop.ini"}


def check_study_folder(folder: Path) -> None:
    """Raise unless a study may be written to `folder`: it is new, empty, or an earlier study; to be asked early."""
    folder = Path(folder)
    if not folder.exists():
        parent = next(above for above in folder.absolute().parents if above.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ProstateXferError(f"Cannot make the folder '{folder}': '{parent}' is not writable, choose another.")
        return
    if not folder.is_dir():
        raise ProstateXferError(f"'{folder}' is a file, and a folder is needed: choose another name.")
    if not os.access(folder, os.W_OK) or (_entries(folder) and not os.access(folder.resolve().parent, os.W_OK)):
        raise ProstateXferError(f"The folder '{folder}' is not writable: choose another.")
    entries = _entries(folder)
    if not entries:
        return
    if not (folder / STUDY_FILE).is_file():
        raise ProstateXferError(
            f"The folder '{folder}' holds files that are no study ({entries[0]}): choose an empty or a new folder."
        )
    if StudyResult.read(folder).edited:
        raise ProstateXferError(
            f"The study in '{folder}' was edited by a person and is not replaced: choose another folder or move it."
        )
    ours = {STUDY_FILE, *OUTPUT_FILES.values()}
    foreign = [name for name in entries if name not in ours and not name.lower().endswith(REPORT_SUFFIX)]
    if foreign:
        raise ProstateXferError(
            f"The folder '{folder}' holds '{foreign[0]}' beside the study: move it or choose another folder."
        )


@contextlib.contextmanager
def new_study_folder(folder: Path) -> Iterator[Path]:
    """Give an empty temporary folder; what is in it becomes `folder` on success, and is removed on failure.

    An earlier study there is replaced when the new one is complete. A folder that is there and empty is kept and
    filled: it may be a mount, or one that another program watches.

    Raises:
        ProstateXferError: as `check_study_folder`, or the disk is full.
    """
    check_study_folder(folder)
    target = Path(folder).resolve()
    inside = target.is_dir() and not _entries(target)
    temporary = (target if inside else target.parent) / f".{uuid.uuid4().hex[:8]}-{target.name[:40]}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if inside:
            _fill(target, temporary)
        else:
            _replace(target, temporary)
    except OSError as error:
        raise ProstateXferError(
            f"The study could not be written to '{folder}' ({error.strerror or error}): check free space and rights."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _entries(folder: Path) -> list[str]:
    """Names in a folder but for hidden files, which systems leave everywhere."""
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if not name.startswith(".") and name.lower() not in _LEFT_BY_FILE_MANAGERS]


def _fill(target: Path, temporary: Path) -> None:
    """Move the files into the empty folder, study.json last: who finds it finds all."""
    files = sorted(temporary.iterdir(), key=lambda path: path.name == STUDY_FILE)
    try:
        for path in files:
            path.replace(target / path.name)
    except OSError:
        for path in files:
            (target / path.name).unlink(missing_ok=True)
        raise


def _replace(target: Path, temporary: Path) -> None:
    """Put the temporary folder in the place of the target, which may exist."""
    if not target.exists():
        temporary.rename(target)
        return
    former = target.with_name(f"{temporary.name}-former")
    target.rename(former)
    try:
        temporary.rename(target)
    except OSError:
        former.rename(target)
        raise
    shutil.rmtree(former, ignore_errors=True)
