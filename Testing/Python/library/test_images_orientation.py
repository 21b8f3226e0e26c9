# SPDX-License-Identifier: Apache-2.0
"""Every image can be seen as axial slices from feet to head, and put back, without touching a voxel value."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.orientation import axial_image, axial_view

SHAPE_ZYX = (4, 5, 6)
STRAIGHT = [np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def numbered_image(direction: np.ndarray) -> sitk.Image:
    """An image whose voxels all differ."""
    grid = Grid(SHAPE_ZYX[::-1], (0.5, 0.7, 3.0), (-20, 15, 40), tuple(np.ravel(direction)))
    return grid.image(np.arange(np.prod(SHAPE_ZYX), dtype=np.int32).reshape(SHAPE_ZYX))


def any_direction(seed: int) -> np.ndarray:
    """Right- or left-handed, at random."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


def positions(image: sitk.Image) -> np.ndarray:
    """LPS mm of every voxel, (z, y, x, 3)."""
    z, y, x = np.indices(image.GetSize()[::-1])
    return Grid.of(image).index_to_lps(np.stack([x, y, z], axis=-1))


@pytest.mark.parametrize("direction", STRAIGHT, ids=str)
def test_all_48_straight_orientations_run_to_superior_posterior_left(direction):
    image = numbered_image(direction)
    applied = axial_view(image).apply(positions(image).transpose(3, 0, 1, 2))
    left, posterior, superior = applied
    assert (np.diff(superior, axis=0) > 0).all()
    assert (np.diff(posterior, axis=1) > 0).all()
    assert (np.diff(left, axis=2) > 0).all()


@given(st.integers(0, 2**31))
def test_every_voxel_of_the_axial_image_keeps_its_place_in_the_patient(seed):
    image = numbered_image(any_direction(seed))
    axial = axial_image(image)
    before = dict(zip(sitk.GetArrayViewFromImage(image).ravel().tolist(), positions(image).reshape(-1, 3), strict=True))
    after = zip(sitk.GetArrayViewFromImage(axial).ravel().tolist(), positions(axial).reshape(-1, 3), strict=True)
    assert all(np.allclose(before[value], point, atol=1e-9) for value, point in after)


@given(st.integers(0, 2**31))
def test_the_axial_image_is_the_nearest_of_all_48_views(seed):
    direction = any_direction(seed)
    reached = np.trace(np.reshape(axial_image(numbered_image(direction)).GetDirection(), (3, 3)))
    assert reached >= max(np.trace(direction @ straight) for straight in STRAIGHT) - 1e-3


@given(st.integers(0, 2**31), st.integers(0, 2))
def test_inverting_gives_back_the_array_with_any_channels_before_it(seed, channel_axes):
    view = axial_view(numbered_image(any_direction(seed)))
    array = np.random.default_rng(seed).normal(size=(2, 3)[:channel_axes] + SHAPE_ZYX)
    applied = view.apply(array)
    assert applied.flags.c_contiguous and np.array_equal(view.invert(applied), array)


def test_the_spacing_follows_the_axes():
    image = numbered_image(np.eye(3)[[2, 0, 1]])  # x runs to posterior, y to superior, z to left
    assert axial_view(image).spacing_zyx(image) == (0.7, 0.5, 3.0)
    assert axial_image(image).GetSpacing() == (3.0, 0.5, 0.7)


@pytest.mark.parametrize("noise", [-1e-7, 0.0, 1e-7])
def test_slices_at_45_degrees_give_each_patient_axis_once_whatever_the_rounding(noise):
    angle = np.pi / 4 + noise
    tilted = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    view = axial_view(numbered_image(tilted))
    assert view.permutation_zyx == (0, 1, 2) and view.flips == (False, False, False)


def test_real_axial_series_are_left_as_they_are(real_data):
    for path in sorted(real_data.glob("real/prostate_t2w/*/t2w.nii.gz")):
        image = read_image(path)
        axial = axial_image(image)
        assert np.diag(np.reshape(axial.GetDirection(), (3, 3))).min() > 0.7, path
        assert axial_view(image).permutation_zyx == (0, 1, 2), path
