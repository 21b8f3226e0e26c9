# SPDX-License-Identifier: Apache-2.0
"""The folder of a selection: the ensemble, the record, the report."""

import json
import math
from pathlib import Path
from typing import Any

from ProstateXferLib.files import make_folder, write_text
from ProstateXferLib.reports.html import write_page
from ProstateXferLib.studies.ensemble_selection.deployed import write_deployed
from ProstateXferLib.studies.ensemble_selection.record import selection_record
from ProstateXferLib.studies.ensemble_selection.report import selection_page
from ProstateXferLib.studies.ensemble_selection.selection import Selection

ENSEMBLE_FILE, RECORD_FILE, REPORT_FILE = "ensemble.safetensors", "selection.json", "report.html"
PREDICTIONS_FOLDER = "predictions"


def write_selection(selection: Selection, folder: Path, *, name: str = "") -> dict[str, Path]:
    """Write the files; those of an earlier selection in the folder are replaced.

    `name` is the ensemble's in its card; the folder's where it is empty.

    Raises:
        ProstateXferError: matplotlib is missing, or the disk is full.
    """
    make_folder(folder)
    page = selection_page(selection)
    record = json.dumps(_finite(selection_record(selection)), indent=1, ensure_ascii=False, allow_nan=False)
    return {
        "ensemble": write_deployed(selection, folder / ENSEMBLE_FILE, name=name or folder.resolve().name).path,
        "record": write_text(folder / RECORD_FILE, record + "\n"),
        "report": write_page(page, folder / REPORT_FILE),
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN (the interval of one patient): null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
