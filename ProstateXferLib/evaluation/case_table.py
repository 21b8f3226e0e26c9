# SPDX-License-Identifier: Apache-2.0
"""The cases of an evaluation from a CSV."""

import csv
import io
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import NEEDED, ROLES, CaseFiles, Cohort

CASE_COLUMN = "case"
_DELIMITERS = ",;\t"
_OTHER_NAMES = {"mask": "body"}


def read_case_table(path: Path) -> Cohort:
    """Columns `case`, `prediction`, `reference` and any of the other roles; an empty cell is a file that there is not.

    Separated by commas, semicolons or tabs; relative paths start at the CSV's folder. `mask` is another name of `body`.

    Raises:
        ProstateXferError: what is wrong and in which line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProstateXferError(f"'{path}' cannot be read as text ({error}): save it as CSV in UTF-8.") from error
    first = text.splitlines()[0] if text.strip() else ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    try:
        header = [_OTHER_NAMES.get(name, name) for name in (cell.strip().lower() for cell in next(reader, []))]
        _check_header(header, path)
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ProstateXferError(f"'{path.name}' is no sound CSV near line {reader.line_num} ({error}).") from error
    cases = [_case(header, cells, path, line) for line, cells in rows]
    if not cases:
        raise ProstateXferError(f"'{path.name}' lists no case: add a line for each below the header.")
    names = [case.case for case in cases]
    if double := [name for name in names if names.count(name) > 1]:
        raise ProstateXferError(f"The case '{double[0]}' stands twice in '{path.name}': each needs its own name.")
    return Cohort(tuple(cases), {})


def _check_header(header: list[str], path: Path) -> None:
    columns = (CASE_COLUMN, *ROLES)
    unknown = [name for name in header if name not in columns]
    double = [name for name in header if header.count(name) > 1]
    if unknown or double:
        what = f"the unknown column '{unknown[0]}'" if unknown else f"the column '{double[0]}' twice"
        raise ProstateXferError(f"Line 1 of '{path.name}' has {what}: the columns are {', '.join(columns)}.")
    if missing := [name for name in (CASE_COLUMN, *NEEDED) if name not in header]:
        raise ProstateXferError(f"Line 1 of '{path.name}' lacks the column '{missing[0]}'.")


def _case(header: list[str], cells: list[str], path: Path, line: int) -> CaseFiles:
    if len(cells) != len(header):
        raise ProstateXferError(
            f"Line {line} of '{path.name}' has {len(cells)} cells and the header {len(header)}: correct it."
        )
    values = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    name = values.pop(CASE_COLUMN)
    if not name:
        raise ProstateXferError(f"Line {line} of '{path.name}' names no case: fill its first cell.")
    return CaseFiles(name, {role: path.parent / Path(cell).expanduser() for role, cell in values.items() if cell})
