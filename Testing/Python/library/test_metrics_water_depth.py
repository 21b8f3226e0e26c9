# SPDX-License-Identifier: Apache-2.0
"""Water-equivalent depth in boxes of water, whose depth is their thickness."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import compare_water_equivalent_depth, water_equivalent_depth_mm
from ProstateXferLib.metrics.water_equivalent_depth import BEAMS, MATRAD_DENSITY

SPACING_ZYX = (3.0, 2.0, 1.0)
WATER = ((-1000.0, 0.0), (0.0, 1.0), (1000.0, 2.0))


def box_of_water(hu=0.0):
    """40 voxels (80 mm) from anterior to posterior, 60 voxels (60 mm) from right to left, air around."""
    ct = np.full((6, 60, 80), -1000.0)
    ct[:, 10:50, 10:70] = hu
    return ct


def point(z, y, x, shape=(6, 60, 80)):
    target = np.zeros(shape, dtype=bool)
    target[z, y, x] = True
    return target


@pytest.mark.parametrize(
    ("beam", "depth_mm"),
    [
        ("anterior", 2.0 * (20 - 10 + 0.5)),
        ("posterior", 2.0 * (49 - 20 + 0.5)),
        ("right", 1.0 * (30 - 10 + 0.5)),  # x runs to the patient's left
        ("left", 1.0 * (69 - 30 + 0.5)),
    ],
)
def test_the_depth_in_water_is_the_way_through_it(beam, depth_mm):
    depth = water_equivalent_depth_mm(box_of_water(), beam, spacing_zyx=SPACING_ZYX, table=WATER)
    assert depth[3, 20, 30] == pytest.approx(depth_mm)
    assert depth[3].max() == pytest.approx({"anterior": 80, "posterior": 80}.get(beam, 60))


def test_opposite_beams_cross_the_whole_box_together():
    ct = box_of_water(350.0)
    there, back = (
        water_equivalent_depth_mm(ct, beam, spacing_zyx=SPACING_ZYX, table=WATER) for beam in ("left", "right")
    )
    assert (there + back)[3, 20, 10:70] == pytest.approx(60 * 1.35)


@pytest.mark.parametrize(("hu", "density"), MATRAD_DENSITY)
def test_the_table_is_hit_at_its_points(hu, density):
    found = water_equivalent_depth_mm(box_of_water(hu), "left", spacing_zyx=SPACING_ZYX, body=np.ones((6, 60, 80)))
    plain = water_equivalent_depth_mm(box_of_water(-1000), "left", spacing_zyx=SPACING_ZYX, body=np.ones((6, 60, 80)))
    crossed = found[3, 20, 10] - plain[3, 20, 70] - density / 2 - (plain[3, 20, 70] - plain[3, 20, 71]) / 2
    assert crossed == pytest.approx(59 * density, abs=1e-6)


def test_water_in_matrads_table_is_half_a_per_cent_too_dense():
    depth = water_equivalent_depth_mm(box_of_water(), "anterior", spacing_zyx=SPACING_ZYX)
    assert depth[3].max() == pytest.approx(80 * 1.00445, rel=1e-4)


def test_the_couch_counts_only_without_a_body():
    ct = box_of_water()
    ct[:, 56:58, :] = 0.0  # 4 mm under the patient
    inside = water_equivalent_depth_mm(ct, "posterior", spacing_zyx=SPACING_ZYX, table=WATER)
    everything = water_equivalent_depth_mm(ct, "posterior", spacing_zyx=SPACING_ZYX, table=WATER, body=None)
    assert inside[3, 49, 30] == pytest.approx(1.0)
    assert everything[3, 49, 30] == pytest.approx(1.0 + 4.0)


def test_a_denser_slab_delays_only_the_beams_that_cross_it():
    truth, synthetic = box_of_water(), box_of_water()
    synthetic[:, 10:15, :][:, :, 10:70] = 100.0  # 10 mm, 10 % denser, in front
    found = compare_water_equivalent_depth(truth, synthetic, point(3, 30, 30), spacing_zyx=SPACING_ZYX, table=WATER)
    assert list(found) == list(BEAMS) == ["anterior", "left", "posterior", "right"]
    assert found["anterior"].mean_mm == pytest.approx(1.0)
    assert found["anterior"].reference_mm == pytest.approx(41.0)
    assert [found[beam].max_absolute_mm for beam in ("left", "posterior", "right")] == pytest.approx([0, 0, 0])


def test_means_over_the_target_keep_and_drop_the_sign():
    truth, synthetic = box_of_water(), box_of_water()
    synthetic[:, 10:15, 30] = 100.0
    synthetic[:, 10:15, 31] = -100.0
    target = point(3, 30, 30) | point(3, 30, 31)
    found = compare_water_equivalent_depth(truth, synthetic, target, spacing_zyx=SPACING_ZYX, table=WATER)
    anterior = found["anterior"]
    assert (anterior.mean_mm, anterior.mean_absolute_mm, anterior.n_voxels) == (
        pytest.approx(0, abs=1e-9),
        pytest.approx(1.0),
        2,
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_comparison_is_that_of_the_whole_maps(seed):
    random = np.random.default_rng(seed)
    truth, synthetic = (random.normal(0, 200, (4, 9, 11)) for _ in range(2))
    target = random.random(truth.shape) < 0.05
    body = random.random(truth.shape) < 0.9
    options = {"spacing_zyx": SPACING_ZYX, "body": body}
    found = compare_water_equivalent_depth(truth, synthetic, target, **options)
    back = compare_water_equivalent_depth(synthetic, truth, target, **options)
    for beam, difference in found.items():
        maps = [water_equivalent_depth_mm(ct, beam, **options)[target] for ct in (truth, synthetic)]
        expected = (maps[1] - maps[0]).mean() if target.any() else math.nan
        assert difference.mean_mm == pytest.approx(expected, nan_ok=True)
        assert back[beam].mean_mm == pytest.approx(-difference.mean_mm, nan_ok=True)


def test_beams_enter_the_patient_whatever_the_order_of_the_file():
    ct = box_of_water()
    ct[:, 10:15, 10:40] = 800.0
    image = sitk.GetImageFromArray(ct)
    image.SetSpacing(SPACING_ZYX[::-1])
    target = sitk.GetImageFromArray(point(3, 30, 35).astype(np.uint8))
    target.CopyInformation(image)
    expected = compare_water_equivalent_depth(image, image + 50, target)
    for order, flips in (((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, False))):
        turned = [sitk.Flip(sitk.PermuteAxes(each, order), flips) for each in (image, image + 50, target)]
        found = compare_water_equivalent_depth(*turned)
        for beam in BEAMS:
            assert found[beam].mean_mm == pytest.approx(expected[beam].mean_mm)
            assert found[beam].reference_mm == pytest.approx(expected[beam].reference_mm)


def test_an_empty_target_has_no_depth():
    found = compare_water_equivalent_depth(
        box_of_water(), box_of_water(), np.zeros((6, 60, 80)), spacing_zyx=SPACING_ZYX
    )
    assert all(math.isnan(each.mean_mm) and each.n_voxels == 0 for each in found.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": "superior"}, "beam 'superior' is unknown"),
        ({"table": [(0.0, 1.0)]}, "two or more"),
        ({"table": [(0.0, 1.0), (0.0, 2.0)]}, "rising HU"),
        ({"spacing_zyx": None}, "needs its spacing"),
    ],
)
def test_what_has_no_depth_is_refused(options, message):
    arguments = {"ct": box_of_water(), "beam": "left", "spacing_zyx": SPACING_ZYX} | options
    with pytest.raises(ProstateXferError, match=message):
        water_equivalent_depth_mm(**arguments)
