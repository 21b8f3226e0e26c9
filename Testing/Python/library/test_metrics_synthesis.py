# SPDX-License-Identifier: Apache-2.0
"""HU errors of a synthetic CT, by hand and against SynthRAD's own numbers."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import mae_hu, me_hu


def test_errors_counted_by_hand():
    truth, synthetic = np.array([[[0, 100, -1000]]]), np.array([[[10, 80, -1000]]])
    assert mae_hu(truth, synthetic) == pytest.approx(10.0)
    assert me_hu(truth, synthetic) == pytest.approx(-10 / 3)


def test_only_the_mask_counts():
    truth, synthetic = np.zeros((1, 1, 3)), np.array([[[5.0, -3.0, 999.0]]])
    mask = np.array([[[2, 2, 0]]])
    assert mae_hu(truth, synthetic, mask) == 4.0
    assert me_hu(truth, synthetic, mask) == 1.0


def test_metal_against_air_does_not_overflow_int16():
    truth, synthetic = np.full((1, 1, 1), -20000, np.int16), np.full((1, 1, 1), 20000, np.int16)
    assert me_hu(truth, synthetic) == 40000.0


def test_an_empty_mask_has_no_error():
    assert math.isnan(mae_hu(np.zeros((1, 1, 2)), np.ones((1, 1, 2)), np.zeros((1, 1, 2))))


def test_images_must_lie_on_one_grid():
    first, second = (sitk.Image(4, 4, 4, sitk.sitkInt16) for _ in range(2))
    assert mae_hu(first, second) == 0.0
    second.SetSpacing((1.0, 1.0, 2.0))
    with pytest.raises(ProstateXferError, match="reference CT .* synthetic CT .* different grids"):
        mae_hu(first, second)


def test_mae_equals_that_of_the_synthrad_challenge(golden_data):
    folder = golden_data / "metrics"
    cases = json.loads((folder / "sct.json").read_text(encoding="utf-8"))["cases"]
    volumes = np.load(folder / "sct.npz")
    for name, case in cases.items():
        expected = float(case["synthrad2023"]["mae"])
        parts = (volumes[f"{name}__{part}"] for part in ("gt", "pred", "mask"))
        assert mae_hu(*parts) == pytest.approx(expected, rel=1e-6, nan_ok=True), name
