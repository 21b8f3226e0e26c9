# SPDX-License-Identifier: Apache-2.0
"""Two volumes against each other."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import compare_volumes


def mask(voxels):
    array = np.zeros((4, 10, 10), dtype=np.uint8)
    array.flat[:voxels] = 1
    return array


def test_differences_are_prediction_minus_reference():
    found = compare_volumes(mask(200), mask(150), (2.0, 1.0, 1.0))
    assert (found.reference_cm3, found.prediction_cm3) == pytest.approx((0.4, 0.3))
    assert found.difference_cm3 == pytest.approx(-0.1)
    assert found.absolute_difference_cm3 == pytest.approx(0.1)
    assert found.relative_difference == pytest.approx(-0.25)
    assert found.difference_to_mean == pytest.approx(-0.1 / 0.35)


@pytest.mark.parametrize(
    ("reference", "prediction", "relative", "to_mean"),
    [(0, 0, math.nan, math.nan), (0, 5, math.nan, 2.0), (5, 0, -1.0, -2.0)],
)
def test_an_empty_mask_has_volume_0(reference, prediction, relative, to_mean):
    found = compare_volumes(mask(reference), mask(prediction), (1.0, 1.0, 1.0))
    assert found.relative_difference == pytest.approx(relative, nan_ok=True)
    assert found.difference_to_mean == pytest.approx(to_mean, nan_ok=True)


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.1, 5), st.permutations(range(3)))
def test_volumes_scale_with_the_spacing_and_ratios_do_not(one, two, factor, axes):
    spacing = np.array([3.0, 0.5, 0.7])
    found = compare_volumes(mask(one), mask(two), spacing)
    turned = [mask(n).transpose(axes) for n in (one, two)]
    scaled = compare_volumes(*turned, factor * spacing[list(axes)])
    assert scaled.difference_cm3 == pytest.approx(factor**3 * found.difference_cm3, abs=1e-9)
    assert scaled.relative_difference == pytest.approx(found.relative_difference, abs=1e-9)
    back = compare_volumes(mask(two), mask(one), spacing)
    assert back.difference_to_mean == pytest.approx(-found.difference_to_mean)


def test_images_bring_their_spacing_and_must_share_a_grid():
    images = [sitk.GetImageFromArray(mask(n)) for n in (100, 50)]
    for image in images:
        image.SetSpacing((0.5, 0.5, 4.0))
    assert compare_volumes(*images).difference_cm3 == pytest.approx(-0.05)
    images[1].SetOrigin((1.0, 0.0, 0.0))
    with pytest.raises(ProstateXferError, match="different grids"):
        compare_volumes(*images)
