# SPDX-License-Identifier: Apache-2.0
"""Gamma through pymedphys (where it is installed) and the dose error in the target."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import gamma_index, target_dose_mae

FOLDER = Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics"
GOLDEN = json.loads((FOLDER / "dose.json").read_text(encoding="utf-8"))
SPACING_ZYX = GOLDEN["spacing_zyx_mm"]


@pytest.fixture(scope="module")
def doses():
    with np.load(FOLDER / "dose.npz") as file:
        return file["ref"], file["eval"]


@pytest.fixture
def pymedphys():
    return pytest.importorskip("pymedphys", reason="the optional package pymedphys is not installed")


@pytest.mark.parametrize("name", [name for name, case in GOLDEN["cases"].items() if "kwargs" in case])
def test_gamma_is_that_of_pymedphys(pymedphys, doses, name):
    case = GOLDEN["cases"][name]
    options = case["kwargs"]
    found = gamma_index(
        *doses,
        spacing_zyx=SPACING_ZYX,
        dose_percent=options["dose_percent_threshold"],
        distance_mm=options["distance_mm_threshold"],
        local=options.get("local_gamma", False),
    )
    assert found.n_evaluated == case["n_eval"]
    assert found.pass_rate_percent == pytest.approx(case["pass_rate_percent"], abs=1e-9)
    assert found.mean_gamma == pytest.approx(case["mean_gamma"], abs=1e-6)
    assert found.gamma_zyx[5, 9, 10] == pytest.approx(case["gamma_at_centre"], abs=1e-6)


def test_gamma_inside_a_mask_and_of_images(pymedphys, doses):
    mask = np.zeros(doses[0].shape, dtype=np.uint8)
    mask[4:6, 8:10, 8:12] = 1
    inside = gamma_index(*doses, spacing_zyx=SPACING_ZYX, mask=mask)
    assert inside.n_evaluated == mask.sum()
    images = [sitk.GetImageFromArray(array) for array in (*doses, mask)]
    for image in images:
        image.SetSpacing(SPACING_ZYX[::-1])
    assert gamma_index(*images[:2], mask=images[2]).mean_gamma == pytest.approx(inside.mean_gamma)
    nowhere = gamma_index(*doses, spacing_zyx=SPACING_ZYX, mask=np.zeros_like(mask))
    assert nowhere.n_evaluated == 0 and math.isnan(nowhere.pass_rate_percent)


def test_equal_doses_pass(pymedphys, doses):
    found = gamma_index(doses[0], doses[0], spacing_zyx=SPACING_ZYX)
    assert found.pass_rate_percent == 100 and found.mean_gamma == 0


def test_without_pymedphys_one_sentence_says_what_to_install(monkeypatch, doses):
    monkeypatch.setitem(sys.modules, "pymedphys", None)
    with pytest.raises(ProstateXferError, match=r"Gamma values need the package pymedphys.*prostatexfer\[dose\]"):
        gamma_index(*doses, spacing_zyx=SPACING_ZYX)


@pytest.mark.parametrize("factor", [0, -1])
def test_a_dose_must_be_a_dose(doses, factor):
    with pytest.raises(ProstateXferError, match="above zero somewhere and below zero nowhere"):
        gamma_index(doses[0], factor * doses[1], spacing_zyx=SPACING_ZYX)


def test_the_error_in_the_target_is_that_of_the_formula(doses):
    case = GOLDEN["cases"]["synthrad_mae_target"]
    found = target_dose_mae(*doses, case["prescribed"], threshold=case["threshold"])
    assert found == pytest.approx(case["value"], rel=1e-6)


def test_the_reference_decides_what_is_target():
    truth, other = np.array([[[2.0, 1.0]]]), np.array([[[1.9, 2.0]]])
    assert target_dose_mae(truth, other, 2.0) == pytest.approx(0.05)
    assert math.isnan(target_dose_mae(truth, other, 20.0))
    with pytest.raises(ProstateXferError, match="prescribed dose of 0 is impossible"):
        target_dose_mae(truth, other, 0)
