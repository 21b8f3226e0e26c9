# SPDX-License-Identifier: Apache-2.0
"""Which files belong to which case: by the names of files or subfolders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import image_suffix
from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX

ROLES = (
    "prediction",
    "reference",
    "other",
    "image",
    "body",
    "target",
    "confidence",
    "prediction_labels",
    "reference_labels",
)
"""What a file of a case may be; `other` is the second method's prediction."""
NEEDED = ("reference", "prediction")
_STUDY_SEGMENTATION = "segmentation.seg.nrrd"
_NNUNET_CHANNEL = "_0000"
_CHANNELLED = ("image", "confidence")


@dataclass(frozen=True)
class CaseFiles:
    """A case and its files by role; one that is needed and missing is the case's failure, not the cohort's."""

    case: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Cohort:
    """Cases by name, and what of each folder no case uses: a misspelt name must not go unseen."""

    cases: tuple[CaseFiles, ...]
    unused: Mapping[str, tuple[str, ...]]


def match_cases(sources: Mapping[str, Path], inner_names: Mapping[str, str] | None = None) -> Cohort:
    """The cases of folders (or single files) by role; a case is what has a reference.

    A folder holds one file a case, whose name without its ending is the case's, or one subfolder a case, in which
    `inner_names` say the file of each role where there are several. The first channel of an nnU-Net image folder
    (`case_0000.nii.gz`) belongs to its case.
    """
    inner_names = inner_names or {}
    if all(Path(sources[role]).is_file() for role in NEEDED):
        _check_files(sources)
        return Cohort((CaseFiles(case_stem(sources["reference"]), dict(sources)),), {})
    found = {role: _entries(Path(folder), role, inner_names.get(role)) for role, folder in sources.items()}
    names = list(found["reference"])
    if not set(names) & set(found["prediction"]):
        raise ProstateXferError(
            f"No case of '{sources['prediction']}' ({_examples(found['prediction'])}) has the name of one of "
            f"'{sources['reference']}' ({_examples(names)}): rename the files, or list the pairs in a CSV."
        )
    for role, paths in found.items():
        if role in _CHANNELLED:
            found[role] = {_case_of_channel(name, names): path for name, path in paths.items()}
    cases = [CaseFiles(name, {role: paths[name] for role, paths in found.items() if name in paths}) for name in names]
    unused = {role: tuple(sorted(set(paths) - set(names))) for role, paths in found.items()}
    return Cohort(tuple(cases), {role: left for role, left in unused.items() if left})


def case_stem(path: Path) -> str:
    """The name without the ending of an image or segmentation file; a folder's whole name."""
    name = Path(path).name
    suffix = SEGMENTATION_SUFFIX if name.lower().endswith(SEGMENTATION_SUFFIX) else image_suffix(path)
    return name[: len(name) - len(suffix)] if suffix else name


def _case_of_channel(name: str, cases: list[str]) -> str:
    """The case of an nnU-Net image; a case may be called `x_0000` itself."""
    bare = name.removesuffix(_NNUNET_CHANNEL)
    return bare if name not in cases and bare in cases else name


def _check_files(sources: Mapping[str, Path]) -> None:
    missing = [path for path in sources.values() if not Path(path).exists()]
    if missing:
        raise ProstateXferError(f"There is no file or folder '{missing[0]}': check its name.")


def _entries(folder: Path, role: str, inner_name: str | None) -> dict[str, Path]:
    """Case name -> file of one role in a folder, sorted by name."""
    if not folder.is_dir():
        what = "a folder is needed as the other side is one" if folder.exists() else "check its name"
        raise ProstateXferError(f"'{folder}' is no folder of cases ({role}): {what}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        file = None
        if not path.name.startswith("."):
            file = _of_subfolder(path, role, inner_name) if path.is_dir() else _of_file(path)
        if file is None:
            continue
        name = case_stem(path)
        if name in found:
            raise ProstateXferError(f"'{folder}' holds two files for the case '{name}': keep one of them.")
        found[name] = file
    if not found:
        raise ProstateXferError(f"'{folder}' holds no image files ({role}): choose another folder.")
    return found


def _of_file(path: Path) -> Path | None:
    return path if image_suffix(path) is not None else None


def _of_subfolder(folder: Path, role: str, inner_name: str | None) -> Path | None:
    """The one file of a role in a case's folder; the folder itself where it holds a DICOM series."""
    if inner_name is not None:
        file = folder / inner_name
        return file if file.exists() else None
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = [path for path in files if path.is_file() and image_suffix(path) is not None]
    if (folder / _STUDY_SEGMENTATION) in images and role in ("prediction", "other", "reference"):
        return folder / _STUDY_SEGMENTATION
    if len(images) > 1:
        raise ProstateXferError(
            f"'{folder}' holds several images ({images[0].name}, {images[1].name}): say which is the {role} with "
            f"--{role}-file NAME, or list the files in a CSV."
        )
    if images:
        return images[0]
    return folder if any(path.is_file() for path in files) else None


def _examples(names: object) -> str:
    first = sorted(names)[:2]
    return ", ".join(f"'{name}'" for name in first) + (", ..." if len(list(names)) > len(first) else "")
