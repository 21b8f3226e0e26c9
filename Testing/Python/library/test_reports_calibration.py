# SPDX-License-Identifier: Apache-2.0
"""What reports say and draw about calibration."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest

from ProstateXferLib.checkpoints.calibration import Calibration, Reliability, ReliabilityBin
from ProstateXferLib.cohort.calibrations import calibrations_of
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.reports.calibration_section import (
    ModelCalibration,
    calibration_figures,
    calibration_notes,
    calibration_sentence,
)

EDGES = np.linspace(0, 1, 16)


def side(bend):
    """A reliability diagram whose frequency is the probability to the power of `bend`."""
    bins = tuple(
        ReliabilityBin(low, high, mid, mid**bend, 1 / 15, 1000, max(0, mid**bend - 0.05), min(1, mid**bend + 0.05))
        for low, high in itertools.pairwise(EDGES)
        for mid in [(low + high) / 2]
    )
    error = float(np.mean([abs(one.frequency - one.probability) for one in bins]))
    return Reliability(error, 0.06, 0.2, bins)


GLAND = Calibration("Prostate", 1.5, "8 held-out cases", 8, 7, 10.0, 5, 1.4, 1.6, False, side(2.0), side(1.1))


def pixels(png):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    return imread(io.BytesIO(png))


def test_the_figure_shows_both_sides_and_follows_the_numbers():
    pytest.importorskip("matplotlib")
    (figure,) = calibration_figures(ModelCalibration("m", ("Prostate",), (GLAND,)))
    picture = pixels(figure.png_bytes)
    assert picture.shape[0] > 500 and picture.shape[1] > 1000
    (again,) = calibration_figures(ModelCalibration("m", ("Prostate",), (GLAND,)))
    assert again.png_bytes == figure.png_bytes
    (other,) = calibration_figures(ModelCalibration("m", ("Prostate",), (replace(GLAND, after=side(2.0)),)))
    changed = np.abs(pixels(other.png_bytes) - picture).sum(axis=-1) > 0
    half = picture.shape[1] // 2
    assert changed[:, half:].any() and not changed[:, : half - 50].any()  # the right side is "after"


def test_a_bin_of_one_patient_has_a_dot_and_no_band():
    pytest.importorskip("matplotlib")
    lonely = replace(
        GLAND.before, bins=tuple(replace(one, frequency_low=None, frequency_high=None) for one in GLAND.before.bins)
    )
    (figure,) = calibration_figures(ModelCalibration("m", ("Prostate",), (replace(GLAND, before=lonely),)))
    assert figure.png_bytes.startswith(b"\x89PNG")


def test_the_sentence_says_on_what_how_much_and_for_what_it_is_no_promise():
    text = calibration_sentence(GLAND, "my-model")
    before, after = GLAND.before.calibration_error, GLAND.after.calibration_error
    for words in (
        "'my-model' was too sure",
        "T = 1.50",
        "8 cases of 7 patients (8 held-out cases)",
        "10 mm",
        "no promise",
    ):
        assert words in text
    assert f"from {before:.3f} to {after:.3f}" in text and "labels and volumes do not depend on it" in text
    assert "too timid" in calibration_sentence(replace(GLAND, temperature=0.7), "m")


def test_what_is_not_calibrated_is_said_in_one_sentence_a_model():
    known = [ModelCalibration("a", ("Prostate", "DIL"), (GLAND,)), ModelCalibration("b", ("Prostate",), (GLAND,))]
    (note,) = calibration_notes(known)
    assert "'a' for DIL are not calibrated" in note
    (both,) = calibration_notes([ModelCalibration("c", ("Prostate", "DIL"))])
    assert "'c' for Prostate and DIL are not calibrated" in both


def entry(*tasks, **changes):
    """A model in study.json."""
    names = ["Prostate", "DIL"]
    return {"name": "m", "tasks": list(tasks), "structures": names, "calibration": [GLAND.to_json()]} | changes


def test_a_studys_record_tells_the_structures_of_its_tasks():
    assert calibrations_of([entry("prostate", "dil")]) == [ModelCalibration("m", ("Prostate", "DIL"), (GLAND,))]
    assert calibrations_of([entry("prostate")]) == [ModelCalibration("m", ("Prostate",), (GLAND,))]
    assert calibrations_of([entry("dil")]) == [ModelCalibration("m", ("DIL",))]
    assert calibrations_of([entry("ct-from-mr", structures=[], calibration=[])]) == []


def test_studies_of_earlier_versions_say_nothing():
    old = entry("prostate")
    del old["calibration"]
    assert calibrations_of([old]) == []


@pytest.mark.parametrize("wrong", [[{}], [5], [{"structure": "Prostate"}], [GLAND.to_json() | {"temperature": -1}]])
def test_an_altered_record_is_a_sentence(wrong):
    with pytest.raises(ProstateXferError):
        calibrations_of([entry("prostate", calibration=wrong)])
