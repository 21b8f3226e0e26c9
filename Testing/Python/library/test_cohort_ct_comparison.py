# SPDX-License-Identifier: Apache-2.0
"""A synthetic CT against a true one: known differences, on another grid, and beyond the field of view."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.voxels import array_of

from ProstateXferLib.cohort.ct_comparison import compare_cts
from ProstateXferLib.images.grid import Grid

GRID = Grid((30, 24, 6), (2.0, 2.0, 4.0), (-29.0, -23.0, 0.0))
BODY, BONE = np.s_[:, 4:20, 5:25], np.s_[:, 10:12, 8:12]


def ct(soft=0, bone=1000, air=-1000, grid=GRID):
    hu = np.full(GRID.shape_zyx, air, np.int16)
    hu[BODY], hu[BONE] = soft, bone
    return grid.image(hu)


def test_known_errors_in_soft_tissue_and_bone():
    found = compare_cts(ct(soft=30, bone=900), ct())
    expected = np.zeros(GRID.shape_zyx)
    expected[BODY], expected[BONE] = 30, -100
    assert np.array_equal(array_of(found.difference), expected)
    assert found.difference.GetPixelID() == sitk.sitkInt16
    body, bone = 16 * 20, 2 * 4
    assert found.scores == pytest.approx(
        {
            "mae_body_hu": (30 * (body - bone) + 100 * bone) / body,
            "mae_soft_tissue_hu": 30,
            "mae_bone_hu": 100,
            "mean_error_body_hu": (30 * (body - bone) - 100 * bone) / body,
            "compared_fraction": 1,
        }
    )


def test_air_around_the_body_is_not_compared():
    assert not array_of(compare_cts(ct(air=-500), ct(air=-1000)).difference).any()


TURNED = Grid((20, 22, 20), (2.5, 1.5, 1.5), (25.0, 14.0, -4.0), (-1, 0, 0, 0, 0, -1, 0, 1, 0))


@pytest.mark.parametrize(("own", "other"), [(GRID, TURNED), (TURNED, GRID)])
def test_the_reference_is_interpolated_to_the_synthetic_cts_grid(own, other):
    """HU that rise linearly are the same HU on every grid, shifted and turned ones included."""

    def ramp(grid, offset=0):
        indices = np.stack(np.meshgrid(*map(np.arange, grid.size_xyz), indexing="ij"), -1)
        left, posterior, superior = np.moveaxis(grid.index_to_lps(indices), -1, 0)
        return grid.image(np.rint(2 * left - posterior + superior + offset).astype(np.int16).transpose(2, 1, 0))

    found = compare_cts(ramp(own, 12), ramp(other))
    assert Grid.of(found.difference) == own
    inside = array_of(found.compared) > 0
    assert 0.1 < inside.mean() < 0.9
    points = own.index_to_lps(np.argwhere(inside)[:, ::-1])
    index = other.lps_to_index(points)
    assert (index > -0.51).all()  # inside the field of view
    deep = ((index >= 0) & (index <= np.array(other.size_xyz) - 1)).all(axis=1)
    assert np.abs(array_of(found.difference)[inside][deep] - 12).max() <= 2  # three roundings
    assert found.scores["mean_error_body_hu"] == pytest.approx(12, abs=0.5)


def test_what_lies_beyond_the_field_of_view_is_not_compared_and_the_share_says_so():
    found = compare_cts(ct(soft=30), ct()[:15, :, :])
    expected = np.zeros(GRID.shape_zyx, bool)
    expected[:, 4:20, 5:15] = True
    assert np.array_equal(array_of(found.compared) > 0, expected)
    assert not array_of(found.difference)[~expected].any()
    assert found.scores["compared_fraction"] == pytest.approx(0.5)


def test_a_tissue_that_is_absent_has_no_error():
    scores = compare_cts(ct(bone=0), ct(bone=0)).scores
    assert scores["mae_bone_hu"] is None
    assert scores["mae_body_hu"] == 0
