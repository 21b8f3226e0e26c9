# SPDX-License-Identifier: Apache-2.0
"""The tables over all cases of a batch, written anew whenever a case is done."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text

MEASUREMENTS_FILE, SYNTHESIS_FILE = "measurements.csv", "synthesis.csv"


def write_batch_tables(results: Sequence[StudyResult], folder: Path) -> list[Path]:
    """`measurements.csv`, a row for each case and structure, and `synthesis.csv`, one for each case and synthetic CT.

    Only those that have a row are written; a case's name stands in the first column.
    """
    tables = {
        MEASUREMENTS_FILE: [row for result in results for row in _measurements(result)],
        SYNTHESIS_FILE: [row for result in results for row in _synthesis(result)],
    }
    return [_write(rows, folder / name) for name, rows in tables.items() if rows]


def _measurements(result: StudyResult) -> Iterator[dict[str, str]]:
    path = result.path("measurements")
    if path is None:
        return
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                yield {"case": result.case, **row}
    except (OSError, ValueError, csv.Error) as error:
        raise ProstateXferError(f"The table '{path}' cannot be read ({error}): run that case again.") from error


def _synthesis(result: StudyResult) -> Iterator[dict[str, str]]:
    for key, scores in result.synthesis.items():
        cells = {name: "" if value is None else f"{value:.4f}" for name, value in scores.items()}
        yield {"case": result.case, "synthetic_ct": key, **cells}


def _write(rows: Sequence[dict[str, str]], path: Path) -> Path:
    text = io.StringIO()
    # Every column of every case: a table of an earlier version may have others.
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())
