# SPDX-License-Identifier: Apache-2.0
"""A table of cases, for data that lie in no layout of their own.

    FOLDER/
      cases.csv          one row a case; paths relative to FOLDER, or absolute
        case_id          unique
        patient_id       optional: the case id stands in for it where the column is missing or the cell empty
        image:T2w        one column a sequence (T2w, ADC, HBV, DWI, T1w, CT, CBCT, ...): a file or a DICOM folder; the
                         first of them with a file is the image that the masks are drawn on
        mask:Prostate    one column a structure: a label image, of which everything above zero counts,
        mask:DIL=2+3     or these label values; an STL surface (.stl); several files with ";" between them are united.
                         Empty: not annotated. The word none: looked for and not found.
        site, lesions    all other columns are attributes; numbers are numbers

Options: table ("cases.csv"): its name. frame ("lps"): of STL surfaces, or "ras". resample (false): bring labels on
another grid onto the image's.
"""

import re
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import chosen, require_cases
from ProstateXferLib.training.datasets.tables import number_or_text, read_rows

LAYOUT = "csv"
_IMAGE, _MASK = "image:", "mask:"
_NONE = "none"


def find(folder: Path, table: str = "cases.csv", frame: str = "lps", resample: bool = False) -> list[Case]:
    """Every row of the table.

    Raises:
        ProstateXferError: the table is missing, lacks a column, or a row has no image.
    """
    chosen(frame, ("lps", "ras"), option="frame", layout=LAYOUT)
    path = folder / table
    cases = []
    for row in read_rows(path, ("case_id",)):
        case_id = row["case_id"]
        images = {
            name.removeprefix(_IMAGE): folder / text for name, text in row.items() if name.startswith(_IMAGE) and text
        }
        if not images:
            raise ProstateXferError(f"'{path}' names no image of the case '{case_id}': fill a column 'image:T2w'.")
        masks = {}
        for name, text in row.items():
            if name.startswith(_MASK) and text:
                structure, values = _structure(name, path)
                masks[structure] = _masks(folder, text, values, frame=frame, resample=resample)
        others = {
            name: number_or_text(text)
            for name, text in row.items()
            if text and name not in ("case_id", "patient_id") and not name.startswith((_IMAGE, _MASK))
        }
        cases.append(Case(case_id, row.get("patient_id") or case_id, images, masks, others))
    return require_cases(cases, folder, LAYOUT, f"{table} with at least one row")


def _structure(column: str, path: Path) -> tuple[str, tuple[int, ...]]:
    """A column's structure and label values: "mask:DIL=2+3" is DIL, (2, 3)."""
    name, equals, values = column.removeprefix(_MASK).partition("=")
    if not name or (equals and re.fullmatch(r"\d+(\+\d+)*", values) is None):
        raise ProstateXferError(f"The column '{column}' of '{path}' is not like mask:Prostate or mask:DIL=2+3.")
    return name, tuple(int(value) for value in values.split("+")) if equals else ()


def _masks(folder: Path, text: str, values: tuple[int, ...], *, frame: str, resample: bool) -> tuple[Mask, ...]:
    if text.lower() == _NONE:
        return ()
    files = (folder / part.strip() for part in text.split(";") if part.strip())
    return tuple(Mask(file, values, frame=frame, resample=resample) for file in files)
