# SPDX-License-Identifier: Apache-2.0
"""Tables and descriptions that come with data sets: CSV, the first sheet of an Excel workbook, JSON."""

import csv
import json
import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ProstateXferLib.errors import ProstateXferError

_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a table as {column: text}, blanks around the texts removed; `columns` are those it must have.

    Raises:
        ProstateXferError: the file is missing, no table, or lacks a column.
    """
    if not path.is_file():
        raise ProstateXferError(f"There is no table '{path}': check its name.")
    lines = _excel(path) if path.suffix.lower() == ".xlsx" else _csv(path)
    if not lines:
        raise ProstateXferError(f"The table '{path}' is empty: its first line must name the columns.")
    header = [cell.strip() for cell in lines[0]]
    missing = [name for name in columns if name not in header]
    if missing:
        raise ProstateXferError(
            f"The table '{path}' has no column '{missing[0]}'; it has {', '.join(header)}: add or rename one."
        )
    padded = ([*line, *[""] * (len(header) - len(line))] for line in lines[1:] if any(cell.strip() for cell in line))
    return [dict(zip(header, map(str.strip, line), strict=False)) for line in padded]


def _csv(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProstateXferError(f"'{path}' is not a CSV file in UTF-8: save it as one.") from error


def _excel(path: Path) -> list[list[str]]:
    """Cells of the first sheet as text. An .xlsx file is a zip of XML (ECMA-376), so no package is needed for it."""
    try:
        with zipfile.ZipFile(path) as archive:
            sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
            texts = []
            if "xl/sharedStrings.xml" in archive.namelist():
                shared = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
                texts = ["".join(t.text or "" for t in item.iter(f"{_SHEET}t")) for item in shared]
            return [_excel_row(row, texts) for row in sheet.iter(f"{_SHEET}row")]
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, ValueError, IndexError) as error:
        raise ProstateXferError(f"'{path}' is not an Excel workbook that can be read: save it as CSV.") from error


def _excel_row(row: ElementTree.Element, texts: Sequence[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(f"{_SHEET}c"):
        # Empty cells are left out of the file; the cell's address says how many came before.
        column = _column_index(cell.get("r", ""), len(cells))
        cells += [""] * (column - len(cells))
        value = cell.find(f"{_SHEET}v")
        if cell.get("t") == "inlineStr":
            cells.append("".join(t.text or "" for t in cell.iter(f"{_SHEET}t")))
        elif value is None:
            cells.append("")
        else:
            cells.append(texts[int(value.text or "")] if cell.get("t") == "s" else value.text or "")
    return cells


def _column_index(address: str, default: int) -> int:
    letters = re.match(r"[A-Z]+", address)
    if letters is None:
        return default
    index = 0
    for letter in letters[0]:
        index = 26 * index + ord(letter) - ord("A") + 1
    return index - 1


def number_or_text(text: str) -> int | float | str:
    """A cell as what it looks like: a whole number, a finite number, or text."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The object in a JSON file; `keys` are those it must have.

    Raises:
        ProstateXferError: the file is missing, no JSON object, or lacks a key.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProstateXferError(f"'{path}' is missing or no JSON file: give the folder that holds it.") from error
    missing = [key for key in keys if not isinstance(values, dict) or key not in values]
    if missing:
        raise ProstateXferError(f"'{path}' has no '{missing[0]}': it describes no data set of this layout.")
    return values
