# SPDX-License-Identifier: Apache-2.0
"""A plan as CSV: one row for each candidate and case."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.csv_rows import CsvRow, read_csv_rows
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text
from ProstateXferLib.studies.ensemble_selection.plan import Candidate, Plan, PlannedCase

PLAN_FILE = "plan.csv"
COLUMNS = ("candidate", "model", "case", "image", "reference")
PATIENT = "patient"


def read_plan(path: Path) -> Plan:
    """The plan of a CSV, or of a folder's plan.csv.

    Columns `candidate`, `model`, `case`, `image`, `reference`; optional `patient` (default: the case); every other
    column is a further sequence of a model, by its name in any capitals ("ADC"). Separated by commas, semicolons or
    tabs. Relative paths start at the CSV's folder; a `model` that is no file there is a registered name.

    Raises:
        ProstateXferError: what is wrong, and in which line.
    """
    path = Path(path)
    path = path / PLAN_FILE if path.is_dir() else path
    header, rows = read_csv_rows(path)
    _check_header(header, path)
    if not rows:
        raise ProstateXferError(f"'{path.name}' lists nothing: add a line for each candidate and case.")
    cases: dict[str, PlannedCase] = {}
    models: dict[str, dict[str, Path | str]] = {}
    for row in rows:
        case = _case(row, path)
        if cases.setdefault(case.name, case) != case:
            raise ProstateXferError(
                f"Line {row.line} of '{path.name}' gives the case '{case.name}' other files or another patient than an "
                "earlier line: every candidate predicts the same image, against the same reference."
            )
        candidate = row.cells["candidate"]
        own = models.setdefault(candidate, {})
        if case.name in own:
            raise ProstateXferError(
                f"Line {row.line} of '{path.name}' is the second one of the candidate '{candidate}' and the case "
                f"'{case.name}': keep the row whose model was not trained on it."
            )
        own[case.name] = _model(row.cells["model"], path.parent)
    return Plan(tuple(cases.values()), tuple(Candidate(name, own) for name, own in models.items()))


def write_plan(plan: Plan, path: Path) -> Path:
    """Write a plan; files are named relative to its folder."""
    others = list(dict.fromkeys(name for case in plan.cases for name in case.others))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, PATIENT, *others])
    for candidate in plan.candidates:
        for case in plan.cases:
            files = [case.image, case.reference, *(case.others.get(name) for name in others)]
            image, reference, *more = ("" if file is None else _relative(file, path.parent) for file in files)
            model = candidate.models[case.name]
            model = _relative(model, path.parent) if isinstance(model, Path) else model
            writer.writerow([candidate.name, model, case.name, image, reference, case.patient, *more])
    return write_text(path, text.getvalue())


def _check_header(header: Sequence[str], path: Path) -> None:
    if missing := [name for name in COLUMNS if name not in header]:
        raise ProstateXferError(
            f"Line 1 of '{path.name}' lacks the column '{missing[0]}': a plan has {', '.join(COLUMNS)}, and may have "
            f"{PATIENT} and further sequences."
        )
    if "" in header:
        raise ProstateXferError(f"Line 1 of '{path.name}' has a column without a name: name its sequence.")


def _case(row: CsvRow, path: Path) -> PlannedCase:
    cells, where = row.cells, f"Line {row.line} of '{path.name}'"
    if empty := [name for name in COLUMNS if not cells[name]]:
        raise ProstateXferError(f"{where} has nothing in the column '{empty[0]}': fill it.")
    named = {name: cell for name, cell in cells.items() if name not in ("candidate", "model", "case", PATIENT) and cell}
    files = {name: path.parent / Path(cell).expanduser() for name, cell in named.items()}
    for name, file in files.items():
        if not file.exists():
            raise ProstateXferError(f"{where}: there is no file or folder '{file}' ({name}); correct it.")
    image, reference = files.pop("image"), files.pop("reference")
    return PlannedCase(cells["case"], image, reference, cells.get(PATIENT) or cells["case"], files)


def _model(cell: str, folder: Path) -> Path | str:
    path = folder / Path(cell).expanduser()
    return path if path.exists() else cell


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return str(Path(path).absolute())
