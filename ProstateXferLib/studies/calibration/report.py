# SPDX-License-Identifier: Apache-2.0
"""The page of a calibration, and its numbers as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.files import make_folder, write_text
from ProstateXferLib.pipelines.provenance import library_versions
from ProstateXferLib.reports.calibration_section import ModelCalibration, calibration_figures
from ProstateXferLib.reports.html import write_page
from ProstateXferLib.reports.page import Page, Table
from ProstateXferLib.studies.calibration.fitting import FittedStructure

REPORT_FILE, JSON_FILE = "report.html", "calibration.json"
_METHODS = (
    "One temperature for each structure: the log-odds of its probability are divided by it, and it is the one with the "
    "least negative log-likelihood (Guo et al., ICML 2017, one structure against the rest). Labels are composed before "
    "and do not change.",
    "Voxels count within {region_mm:g} mm of the reference or of where the model sees the structure (probability of "
    "one half or more): further away everything is background of which every model is rightly sure, and counting it "
    "would make any model look calibrated. Each case has the same weight, however large its structure.",
    "Numbers after the temperature are those of patients that it was not fitted on: the patients were split into "
    "folds, and each fold was reported at the temperature of the others. The temperature in the card is fitted on all "
    "of them. Nothing here can check that the model was not trained on these cases; on those it was, it looks "
    "better than it is.",
)


def write_calibration_report(
    fitted: Sequence[FittedStructure], model: Checkpoint, folder: Path, warnings: Sequence[str] = ()
) -> dict[str, Path]:
    """Write report.html and calibration.json into a folder; returns the files by name.

    Args:
        fitted: one or more structures.
        model: what was calibrated.
        folder: made if it is not there.
        warnings: that arose on the way.
    """
    make_folder(folder)
    values = {
        "model": {"name": model.card.name, "sha256": model.sha256},
        "structures": [_values(one) for one in fitted],
        "warnings": list(warnings),
        "versions": library_versions(),
    }
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = write_page(calibration_page(fitted, model, warnings), folder / REPORT_FILE)
    return {REPORT_FILE: page, JSON_FILE: write_text(folder / JSON_FILE, text)}


def calibration_page(fitted: Sequence[FittedStructure], model: Checkpoint, warnings: Sequence[str] = ()) -> Page:
    """Table, diagrams and methods."""
    return Page(
        title=f"Calibration of {model.card.name}",
        subtitle=fitted[0].calibration.data,
        notes=[text.format(region_mm=fitted[0].calibration.region_mm) for text in _METHODS],
        warnings=warnings,
        figures=calibration_figures(_known(fitted, model)),
        tables=[_table(fitted), _patients(fitted)],
        provenance={"model": model.card.name, "sha256": model.sha256, **library_versions()},
    )


def _known(fitted: Sequence[FittedStructure], model: Checkpoint) -> ModelCalibration:
    calibrations = tuple(one.calibration for one in fitted)
    return ModelCalibration(model.card.name, tuple(one.structure for one in calibrations), calibrations)


def _table(fitted: Sequence[FittedStructure]) -> Table:
    rows = []
    for one in fitted:
        calibration = one.calibration
        ends = f"{calibration.temperature_low:.2f}–{calibration.temperature_high:.2f}"
        for when, side in (("before", calibration.before), ("after", calibration.after)):
            first = when == "before"
            rows.append(
                [
                    calibration.structure if first else "at the temperature",
                    "" if first else f"{calibration.temperature:.3f}",
                    "" if first else ends,
                    f"{side.calibration_error:.4f}",
                    f"{side.brier:.4f}",
                    f"{side.negative_log_likelihood:.4f}",
                    f"{calibration.patients}" if first else "",
                    f"{calibration.cases}" if first else "",
                ]
            )
    header = ["Structure", "T", "over folds", "Calibration error", "Brier score", "NLL", "Patients", "Cases"]
    return Table(
        "Before and after",
        header,
        rows,
        caption="After: each patient at the temperature of the folds that the patient was not in. Less is better.",
        units=["", "", "", "", "", "nats a voxel", "", ""],
        indented=frozenset(range(1, len(rows), 2)),
    )


def _patients(fitted: Sequence[FittedStructure]) -> Table:
    rows = []
    for one in fitted:
        better = sum(gain > 0 for gain in one.gains.values())
        interval = f"{-one.gain.mean:+.4f} ({-one.gain.high:+.4f} to {-one.gain.low:+.4f})"
        rows.append([one.calibration.structure, interval, f"{better} of {len(one.gains)}"])
    return Table(
        "Patient by patient",
        ["Structure", "Change of the NLL", "Patients with less"],
        rows,
        caption="Mean over patients with its 95 % bootstrap interval; below zero is a gain.",
        units=["", "nats a voxel", ""],
    )


def _values(one: FittedStructure) -> Mapping[str, Any]:
    gain = {"mean": one.gain.mean, "low": one.gain.low, "high": one.gain.high, "patients": one.gain.n_used}
    return {**one.calibration.to_json(), "gain_nats": gain, "gain_nats_of_patients": dict(one.gains)}
