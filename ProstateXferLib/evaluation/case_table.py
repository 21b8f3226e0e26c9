# SPDX-License-Identifier: Apache-2.0
"""The cases of an evaluation from a CSV."""

from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.csv_rows import CsvRow, read_csv_rows
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import NEEDED, ROLES, CaseFiles, Cohort

CASE_COLUMN = "case"
_OTHER_NAMES = {"mask": "body"}


def read_case_table(path: Path) -> Cohort:
    """Columns `case`, `prediction`, `reference` and any of the other roles; an empty cell is a file that there is not.

    Separated by commas, semicolons or tabs; relative paths start at the CSV's folder. `mask` is another name of `body`.

    Raises:
        ProstateXferError: what is wrong and in which line.
    """
    path = Path(path)
    columns, rows = read_csv_rows(path)
    header = [_OTHER_NAMES.get(name, name) for name in columns]
    _check_header(header, path)
    cases = [_case(header, row, path) for row in rows]
    if not cases:
        raise ProstateXferError(f"'{path.name}' lists no case: add a line for each below the header.")
    names = [case.case for case in cases]
    if double := [name for name in names if names.count(name) > 1]:
        raise ProstateXferError(f"The case '{double[0]}' stands twice in '{path.name}': each needs its own name.")
    return Cohort(tuple(cases), {})


def _check_header(header: Sequence[str], path: Path) -> None:
    columns = (CASE_COLUMN, *ROLES)
    unknown = [name for name in header if name not in columns]
    double = [name for name in header if header.count(name) > 1]
    if unknown or double:
        what = f"the unknown column '{unknown[0]}'" if unknown else f"the column '{double[0]}' twice"
        raise ProstateXferError(f"Line 1 of '{path.name}' has {what}: the columns are {', '.join(columns)}.")
    if missing := [name for name in (CASE_COLUMN, *NEEDED) if name not in header]:
        raise ProstateXferError(f"Line 1 of '{path.name}' lacks the column '{missing[0]}'.")


def _case(header: Sequence[str], row: CsvRow, path: Path) -> CaseFiles:
    values = dict(zip(header, row.cells.values(), strict=True))
    name = values.pop(CASE_COLUMN)
    if not name:
        raise ProstateXferError(f"Line {row.line} of '{path.name}' names no case: fill its first cell.")
    return CaseFiles(name, {role: path.parent / Path(cell).expanduser() for role, cell in values.items() if cell})
