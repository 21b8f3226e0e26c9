# SPDX-License-Identifier: Apache-2.0
"""What adapters share: looking into folders, and saying what was expected there."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import IMAGE_SUFFIXES, image_suffix
from ProstateXferLib.training.datasets.case import Case

_DICOM_NAME_ENDINGS = (".dcm", ".ima")


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder, by name; hidden ones are left out."""
    return sorted(p for p in folder.iterdir() if image_suffix(p) and p.is_file() and not p.name.startswith("."))


def image_named(folder: Path, stem: str) -> Path | None:
    """The image file or DICOM folder called `stem`, whatever its ending; None where there is none."""
    for suffix in IMAGE_SUFFIXES:
        if (path := folder / f"{stem}{suffix}").is_file():
            return path
    return path if (path := folder / stem).is_dir() else None


def stem_of(path: Path) -> str:
    """An image file's name without its ending (".nii.gz" as a whole)."""
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def holds_dicom(folder: Path) -> bool:
    """Whether files directly in the folder look like DICOM: by their ending, or, without one, by their mark."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix.lower() in _DICOM_NAME_ENDINGS:
            return True
        if path.suffix == "" or path.suffix[1:].isdigit():
            with path.open("rb") as file:
                return file.read(132)[128:] == b"DICM"
    return False


def dicom_folders(folder: Path) -> list[Path]:
    """All folders from here downwards that hold DICOM files, by path."""
    found = [folder] if holds_dicom(folder) else []
    for below in subfolders(folder):
        found += dicom_folders(below)
    return found


def folders_named(folder: Path, names: Iterable[str]) -> dict[str, list[Path]]:
    """Where folders of these names lie, at any depth; one walk, which does not go into those found."""
    found: dict[str, list[Path]] = {name: [] for name in names}
    for place, below, _ in _walk(folder):
        for name in sorted(found.keys() & set(below)):
            found[name].append(place / name)
            below.remove(name)
    return found


def files_below(folder: Path) -> list[Path]:
    """All files from here downwards, by path, through links to folders as well; hidden ones are left out."""
    return sorted(place / name for place, _, files in _walk(folder) for name in files if not name.startswith("."))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """os.walk by name, through links (data sets are often linked to where a recipe wants them), each folder once."""
    seen = set()
    for place, below, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(place), below, files


def require_cases(cases: list[Case], folder: Path, layout: str, expected: str) -> list[Case]:
    """The cases, or an error that says what the layout expects.

    Raises:
        ProstateXferError: there are none.
    """
    if not cases:
        raise ProstateXferError(
            f"'{folder}' holds no case of the layout '{layout}': {expected} was expected "
            f"(the whole tree: prostatexfer data layouts {layout})."
        )
    return cases


def require_folder(folder: Path, layout: str, expected: str) -> Path:
    """The folder, or an error that names what the layout expects there.

    Raises:
        ProstateXferError: it is not there.
    """
    if not folder.is_dir():
        raise ProstateXferError(
            f"The layout '{layout}' needs '{folder}' ({expected}), which is not there "
            f"(the whole tree: prostatexfer data layouts {layout})."
        )
    return folder


def chosen(value: str, allowed: Iterable[str], *, option: str, layout: str) -> str:
    """An option's value.

    Raises:
        ProstateXferError: it is none of those allowed.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ProstateXferError(
            f"The layout '{layout}' takes for its option '{option}' one of {', '.join(allowed)}, not '{value}'."
        )
    return value


def two_values(values: Sequence[int], *, option: str, layout: str) -> tuple[int, int]:
    """The two label values of an option.

    Raises:
        ProstateXferError: there are not two, or they are no whole numbers.
    """
    if len(values) != 2 or not all(type(value) is int for value in values):
        raise ProstateXferError(f"The layout '{layout}' takes two label values for its option '{option}': e.g. [1, 2].")
    return values[0], values[1]
