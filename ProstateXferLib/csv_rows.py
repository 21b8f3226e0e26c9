# SPDX-License-Identifier: Apache-2.0
"""The rows of a CSV that a person wrote: any of three separators, and sentences for what is wrong with it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class CsvRow:
    """The cells of one line by column, without the blanks around them."""

    line: int
    cells: dict[str, str]


def read_csv_rows(path: Path) -> tuple[tuple[str, ...], tuple[CsvRow, ...]]:
    """The header in small letters, and the rows with a filled cell; commas, semicolons or tabs separate.

    Raises:
        ProstateXferError: not to be read, no CSV, a column twice, or a row of another length.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProstateXferError(f"'{path}' cannot be read as text ({error}): save it as CSV in UTF-8.") from error
    first = text.splitlines()[0] if text.strip() else ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    try:
        header = tuple(cell.strip().lower() for cell in next(reader, []))
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ProstateXferError(f"'{path.name}' is no sound CSV near line {reader.line_num} ({error}).") from error
    if double := [name for name in header if header.count(name) > 1]:
        raise ProstateXferError(f"Line 1 of '{path.name}' has the column '{double[0]}' twice: keep one of them.")
    return header, tuple(_row(header, cells, path, line) for line, cells in lines)


def _row(header: tuple[str, ...], cells: list[str], path: Path, line: int) -> CsvRow:
    if len(cells) != len(header):
        raise ProstateXferError(
            f"Line {line} of '{path.name}' has {len(cells)} cells and the header {len(header)}: correct it."
        )
    return CsvRow(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
