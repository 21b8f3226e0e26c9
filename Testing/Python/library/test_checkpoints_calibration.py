# SPDX-License-Identifier: Apache-2.0
"""A card keeps its temperatures through JSON, and refuses those that cannot be."""

import json
from dataclasses import replace

import pytest

from ProstateXferLib.checkpoints.calibration import Calibration, Reliability, ReliabilityBin
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError

BINS = (ReliabilityBin(0.0, 0.5, 0.2, 0.1, 0.75, 300, 0.05, 0.2), ReliabilityBin(0.5, 1.0, 0.8, 1.0, 0.25, 100))
SIDE = Reliability(0.125, 0.03, 0.2, BINS)
GLAND = Calibration("Prostate", 1.5, "8 cases", 8, 7, 10.0, 5, 1.4, 1.6, False, SIDE, SIDE)


@pytest.fixture
def card(segmentation_card):
    return segmentation_card("gland", "dil")


def test_a_card_with_temperatures_comes_back_from_json(card):
    calibrated = replace(card, calibration=(GLAND, replace(GLAND, structure="DIL", temperature=0.7)))
    text = calibrated.to_json()
    assert ModelCard.from_json(text) == calibrated and ModelCard.from_json(text).to_json() == text


def test_a_card_without_them_is_written_as_before(card):
    assert "calibration" not in json.loads(card.to_json())
    assert ModelCard.from_json(card.to_json()).calibration == ()


def test_a_structure_that_the_model_does_not_find_or_one_twice_is_refused(card):
    with pytest.raises(ProstateXferError, match="calibrates 'Bladder', which is none"):
        replace(card, calibration=(replace(GLAND, structure="Bladder"),))
    with pytest.raises(ProstateXferError, match="calibrates 'Prostate' twice"):
        replace(card, calibration=(GLAND, GLAND))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0),
        ("temperature", -1.5),
        ("temperature", "1.5"),
        ("temperature", None),
        ("temperature", True),
        ("temperature_low", float("inf")),
        ("cases", 0),
        ("patients", 2.5),
        ("region_mm", -1),
        ("data", 5),
        ("tta", "no"),
        ("unknown", 1),
        ("before", None),
        ("after", {}),
        ("after", {"calibration_error": 2.0, "brier": 0.1, "negative_log_likelihood": 0.1, "bins": []}),
        ("after", {"calibration_error": 0.2, "brier": 0.1, "negative_log_likelihood": 0.1, "bins": [{"low": 0}]}),
        ("after", {"calibration_error": 0.2, "brier": 0.1, "negative_log_likelihood": 0.1, "bins": []}),
    ],
)
def test_a_file_with_a_value_that_cannot_be_is_refused_in_a_sentence(card, field, value):
    values = json.loads(replace(card, calibration=(GLAND,)).to_json())
    values["calibration"][0][field] = value
    with pytest.raises(ProstateXferError):
        ModelCard.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "change", [{"low": 0.6}, {"frequency": 1.1}, {"frequency_low": -0.1}, {"voxels": 0}, {"share": float("nan")}]
)
def test_a_bin_that_cannot_be_is_refused(change):
    with pytest.raises(ProstateXferError, match="bin of a reliability diagram"):
        replace(BINS[0], **change)


def test_an_old_card_with_a_temperature_of_the_wrong_kind_is_refused(card):
    values = json.loads(card.to_json()) | {"calibration": 1.5}
    with pytest.raises(ProstateXferError, match="malformed"):
        ModelCard.from_json(json.dumps(values))
