# SPDX-License-Identifier: Apache-2.0
"""The cases of a batch, from a CSV file or a folder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.cohort.case import Case, checked_case_name, folder_key
from ProstateXferLib.cohort.inputs import INPUT_NAMES, StudyInputs
from ProstateXferLib.csv_rows import CsvRow, read_csv_rows
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import image_suffix
from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX

CASE_COLUMN = "case"


@dataclass(frozen=True)
class Manifest:
    """The cases in their order, and the names in a folder that no case uses: a misspelt file must not go unseen."""

    cases: tuple[Case, ...]
    unused: tuple[str, ...] = ()


def read_manifest(path: Path) -> Manifest:
    """The cases of a CSV file, of a folder of studies, or of a folder of T2w images.

    * CSV: columns `case` and any of t2w, adc, high_b, cbct, reference_ct, reference_segmentation; an empty cell is an
      image that there is not, relative paths start at the CSV's folder. Separated by commas, semicolons or tabs.
    * Folder of studies: one subfolder a case, in it files (or DICOM folders) named `t2w.nii.gz`, `cbct.mha`, ...
    * Folder of images: each image file is a T2w image and a case of its own.

    Raises:
        ProstateXferError: what is wrong and in which line, in one sentence.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise ProstateXferError(f"There is no file or folder '{path}': check its name.")
    if image_suffix(path) is not None:
        raise ProstateXferError(f"'{path.name}' is one image: use prostatexfer study, or give its folder or a CSV.")
    return Manifest(tuple(_unique(_rows(path))))


def _rows(path: Path) -> Iterator[tuple[Case, str]]:
    """Each row of a CSV as a case, and where it stands."""
    header, rows = read_csv_rows(path)
    _check_header(header, path)
    if not rows:
        raise ProstateXferError(f"'{path.name}' lists no case: add a line for each below the header.")
    for row in rows:
        yield _case(row, path)


def _check_header(header: Sequence[str], path: Path) -> None:
    columns = (CASE_COLUMN, *INPUT_NAMES)
    unknown = [name for name in header if name not in columns]
    if unknown:
        raise ProstateXferError(
            f"Line 1 of '{path.name}' has the unknown column '{unknown[0]}': the columns are {', '.join(columns)}."
        )
    if CASE_COLUMN not in header or len(header) < 2:
        raise ProstateXferError(
            f"Line 1 of '{path.name}' must name the column '{CASE_COLUMN}' and at least one of "
            f"{', '.join(INPUT_NAMES)}."
        )


def _case(row: CsvRow, path: Path) -> tuple[Case, str]:
    where = f"line {row.line} of '{path.name}'"
    name = checked_case_name(row.cells[CASE_COLUMN], where)
    values = {column: cell for column, cell in row.cells.items() if column != CASE_COLUMN}
    files = {column: path.parent / Path(cell).expanduser() for column, cell in values.items() if cell}
    if not files:
        raise ProstateXferError(f"{_capital(where)} names no image for the case '{name}': add one.")
    for column, file in files.items():
        if not file.exists():
            raise ProstateXferError(f"{_capital(where)}: there is no file or folder '{file}' ({column}); correct it.")
    return Case(name, StudyInputs(**files)), where


def _folder(folder: Path) -> Manifest:
    """Studies in subfolders, or else T2w images."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    studies = [(_study_inputs(path), path) for path in entries if path.is_dir()]
    cases = [(Case(_name(path.name, path), inputs), f"folder '{path}'") for inputs, path in studies if inputs.given()]
    if not cases:
        images = [path for path in entries if path.is_file() and _is_image(path)]
        cases = [(Case(_name(_stem(path), path), StudyInputs(t2w=path)), f"file '{path}'") for path in images]
    if not cases:
        raise ProstateXferError(
            f"'{folder}' holds neither subfolders with images named t2w, cbct, ... nor image files: choose another, or "
            "list the cases in a CSV."
        )
    used = {path for case, _ in cases for image in case.inputs.given().values() for path in (image, image.parent)}
    unused = [path.name for path in entries if path not in used and (path.is_dir() or image_suffix(path))]
    return Manifest(tuple(_unique(cases)), tuple(unused))


def _study_inputs(folder: Path) -> StudyInputs:
    """The images in a case's folder, by the names of the files; capitals do not matter, nor - for _."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = _stem(path).lower().replace("-", "_")
        if name not in INPUT_NAMES or not (path.is_dir() or image_suffix(path)):
            continue
        if name in found:
            raise ProstateXferError(f"'{folder}' holds both {found[name].name} and {path.name}: keep one of them.")
        found[name] = path
    return StudyInputs(**found)


def _is_image(path: Path) -> bool:
    return image_suffix(path) is not None and not path.name.lower().endswith(SEGMENTATION_SUFFIX)


def _stem(path: Path) -> str:
    """The name without the ending of an image or segmentation file; a folder's whole name."""
    if path.is_dir():
        return path.name
    lower = path.name.lower()
    suffix = SEGMENTATION_SUFFIX if lower.endswith(SEGMENTATION_SUFFIX) else image_suffix(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.stem


def _name(text: str, path: Path) -> str:
    return checked_case_name(text, f"'{path}'")


def _unique(cases: Iterable[tuple[Case, str]]) -> Iterator[Case]:
    """The cases, refused where two of them would have one folder."""
    seen: dict[str, str] = {}
    for case, where in cases:
        key = folder_key(case.name)
        if key in seen:
            raise ProstateXferError(
                f"The case '{case.name}' stands twice ({seen[key]}, {where}): each case needs its own name, capitals "
                "aside."
            )
        seen[key] = where
        yield case


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
