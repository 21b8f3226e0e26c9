# SPDX-License-Identifier: Apache-2.0
"""A temperature changes probabilities and never labels."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.checkpoints.calibration import Calibration, Reliability, ReliabilityBin
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.calibration import CERTAIN as FITTED_CERTAIN
from ProstateXferLib.metrics.calibration import log_odds
from ProstateXferLib.pipelines.calibrated import CERTAIN, calibrated
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((48, 32, 4), (1.0, 1.0, 3.0))
SIDE = Reliability(0.1, 0.1, 0.1, (ReliabilityBin(0.0, 1.0, 0.5, 0.5, 1.0, 10),))
TEMPERATURE = 2.5
GLAND = Calibration("Prostate", TEMPERATURE, "nothing", 3, 3, 10.0, 3, 2.0, 3.0, False, SIDE, SIDE)
VALUES = np.random.default_rng(0).integers(-1000, 1000, GRID.shape_zyx).astype(np.int16)


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


@pytest.fixture
def model(tmp_path, threshold_state, segmentation_card):
    """model("name", calibration): a checkpoint file."""

    def write(name, *calibration):
        card = replace(segmentation_card("gland", "dil"), name=name, calibration=calibration)
        state = threshold_state(gland=(0.3,), dil=(0.3,), inverted=("dil",))
        return write_checkpoint(tmp_path / f"{name}.safetensors", card, state)

    return write


def predict(*given, **options):
    return Segmenter(given[0] if len(given) == 1 else list(given), device="cpu", **options).predict(GRID.image(VALUES))


def arrays(segmentation):
    return {name: sitk.GetArrayFromImage(image) for name, image in segmentation.probabilities.items()}


def test_log_odds_are_divided_by_the_temperature():
    odds = np.linspace(-10, 10, 105).reshape(3, 5, 7)
    found = calibrated(sigmoid(odds), 3.0)
    assert found.dtype == np.float32 and found.shape == odds.shape
    assert log_odds(found) == pytest.approx(odds / 3, abs=1e-3)  # single precision near 1


@pytest.mark.parametrize("temperature", [0.2, 0.9, 1.0, 1.1, 7.0])
def test_nothing_stays_nothing_and_the_order_stays(temperature):
    p = np.linspace(0, 1, 1001, dtype=np.float32)
    found = calibrated(p, temperature)
    assert found[0] == 0 and found[500] == pytest.approx(0.5) and (np.diff(found) >= 0).all()
    assert (found <= 1).all() and (temperature != 1 or np.array_equal(found, p))


def test_what_is_applied_is_what_was_fitted():
    assert CERTAIN == FITTED_CERTAIN


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(ProstateXferError, match="above 0"):
        calibrated(np.array([0.5]), temperature)


def test_a_temperature_of_another_way_of_running_is_told(model):
    path, mirrored = model("a", GLAND), model("b", replace(GLAND, tta=True))
    assert predict(path).provenance.warnings == () and predict(mirrored, tta=True).provenance.warnings == ()
    with pytest.warns(UserWarning, match="'Prostate' was fitted without mirrorings and is used with mirrorings"):
        (told,) = predict(path, tta=True).provenance.warnings
    with pytest.warns(UserWarning, match="fitted with mirrorings averaged and is used without"):
        assert predict(mirrored).provenance.warnings != (told,)


@pytest.mark.filterwarnings("ignore:The temperature")
@pytest.mark.parametrize("tta", [False, True])
def test_labels_are_the_same_with_and_without(model, tta):
    plain, warm = predict(model("a"), tta=tta), predict(model("b", GLAND), tta=tta)
    assert np.array_equal(sitk.GetArrayFromImage(plain.labels), sitk.GetArrayFromImage(warm.labels))
    assert set(np.unique(sitk.GetArrayFromImage(warm.labels))) == {0, 1, 2}
    assert not plain.provenance.options["calibrated"] and warm.provenance.options["calibrated"]


def test_the_map_of_the_calibrated_structure_alone_changes(model):
    plain, warm = arrays(predict(model("a"))), arrays(predict(model("b", GLAND)))
    assert np.array_equal(plain["DIL"], warm["DIL"])
    p = plain["Prostate"].astype(np.float64)
    middle = (p > 0.001) & (p < 0.999)
    odds = np.log(p[middle]) - np.log(1 - p[middle])
    assert middle.sum() > 1000
    assert warm["Prostate"][middle] == pytest.approx(sigmoid(odds / TEMPERATURE), abs=1e-5)


def test_members_temperatures_do_not_count_but_the_ensembles_do(model, tmp_path):
    members = [model("a", GLAND), model("b", replace(GLAND, temperature=0.3))]
    plain = arrays(predict(model("c")))["Prostate"]
    together = predict(*members)
    assert arrays(together)["Prostate"] == pytest.approx(plain, abs=1e-6)
    assert not together.provenance.options["calibrated"]
    ensemble = make_ensemble(tmp_path / "e.safetensors", members)
    assert arrays(predict(ensemble))["Prostate"] == pytest.approx(plain, abs=1e-6)
    warm = replace(ensemble, card=replace(ensemble.card, calibration=(GLAND,)))
    assert arrays(predict(warm))["Prostate"] == pytest.approx(calibrated(plain, TEMPERATURE), abs=1e-6)
