# SPDX-License-Identifier: Apache-2.0
"""The panel says how far the probabilities of the last run can be believed."""

import json

import pytest

from ProstateXferLib.checkpoints.calibration import Calibration, Reliability, ReliabilityBin

BINS = (ReliabilityBin(0.0, 1.0, 0.5, 0.4, 1.0, 100),)
BEFORE, AFTER = Reliability(0.056, 0.07, 0.23, BINS), Reliability(0.034, 0.06, 0.21, BINS)
GLAND = Calibration("Prostate", 0.66, "8 held-out cases", 8, 8, 10.0, 5, 0.6, 0.7, False, BEFORE, AFTER)


@pytest.fixture
def shown(finished_panel, study_of):
    """shown(calibration): the lines below the table after a run whose models' cards have this calibration; None is a
    study of an earlier version."""

    def run(calibration, uncertainty=True):
        study = study_of("prostate", "dil")
        record = json.loads((study / "study.json").read_text(encoding="utf-8"))
        for model in record["models"]:
            model.pop("calibration", None)
            if calibration is not None:
                model["calibration"] = [one.to_json() for one in calibration]
        if not uncertainty:
            del record["outputs"]["uncertainty"]
        (study / "study.json").write_text(json.dumps(record), encoding="utf-8")
        finished_panel.run(study)
        return [line for line in finished_panel.ui.resultsLabel.text.splitlines() if "Probabilities" in line]

    return run


def test_a_calibrated_structure_has_a_line_with_its_numbers_and_the_other_one_too(shown):
    calibrated, other = shown((GLAND,))
    assert "Prostate" in calibrated and "0.66" in calibrated and "8 cases" in calibrated
    assert "0.056 before, 0.034 after" in calibrated
    assert "DIL" in other and "not calibrated" in other and "Prostate (" not in other


def test_without_a_map_of_the_uncertainty_what_is_not_calibrated_is_not_told(shown):
    (calibrated,) = shown((GLAND,), uncertainty=False)
    assert "are calibrated" in calibrated


def test_a_study_of_an_earlier_version_says_nothing(shown):
    assert shown(None) == []
