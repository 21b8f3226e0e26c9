# SPDX-License-Identifier: Apache-2.0
"""The cases that a calibration is made from, as CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.csv_rows import CsvRow, read_csv_rows
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import case_stem

_IMAGE, _REFERENCE, _CASE, _PATIENT = "image", "reference", "case", "patient"


@dataclass(frozen=True)
class CalibrationCase:
    """One case and its files.

    Attributes:
        name: unique in the list.
        patient: cases of one patient are never on both sides of a fold.
        images: sequence name -> file, the model's first sequence first.
        reference: label map on the first sequence's grid.
    """

    name: str
    patient: str
    images: Mapping[str, Path]
    reference: Path


def read_case_list(path: Path, sequences: Sequence[str]) -> tuple[CalibrationCase, ...]:
    """Columns `image` and `reference`; `case` (default: the image's file name), `patient` (default: the case), and one
    for each further sequence of the model, by its name in any capitals.

    Relative paths start at the CSV's folder.

    Args:
        path: the CSV.
        sequences: those that the model takes; the first one is `image`.

    Raises:
        ProstateXferError: what is wrong, and in which line.
    """
    path = Path(path)
    header, rows = read_csv_rows(path)
    columns = {_IMAGE: sequences[0], **{name.lower(): name for name in sequences[1:]}}
    known = [_CASE, _PATIENT, _REFERENCE, *columns]
    if unknown := [name for name in header if name not in known]:
        raise ProstateXferError(
            f"Line 1 of '{path.name}' has the unknown column '{unknown[0]}': for this model the columns are "
            f"{', '.join(known)}."
        )
    if missing := [name for name in (_REFERENCE, *columns) if name not in header]:
        raise ProstateXferError(f"Line 1 of '{path.name}' lacks the column '{missing[0]}'.")
    if not rows:
        raise ProstateXferError(f"'{path.name}' lists no case: add a line for each below the header.")
    cases = tuple(_case(row, columns, path) for row in rows)
    names = [case.name for case in cases]
    if double := [name for name in names if names.count(name) > 1]:
        raise ProstateXferError(
            f"The case '{double[0]}' stands twice in '{path.name}': give each its own name in the column '{_CASE}'."
        )
    return cases


def _case(row: CsvRow, columns: Mapping[str, str], path: Path) -> CalibrationCase:
    files = {}
    for column in (_REFERENCE, *columns):
        cell = row.cells[column]
        file = path.parent / Path(cell).expanduser()
        if not cell or not file.exists():
            raise ProstateXferError(
                f"Line {row.line} of '{path.name}': there is no file or folder '{cell}' ({column}); correct it."
            )
        files[column] = file
    name = row.cells.get(_CASE) or case_stem(files[_IMAGE])
    images = {sequence: files[column] for column, sequence in columns.items()}
    return CalibrationCase(name, row.cells.get(_PATIENT) or name, images, files[_REFERENCE])
