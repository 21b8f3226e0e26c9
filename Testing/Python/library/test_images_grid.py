# SPDX-License-Identifier: Apache-2.0
"""Grids keep voxels where they are in the patient, and resampling loses nothing at the rim."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid, resampled_grid

SPACINGS = st.tuples(*[st.floats(0.2, 6.0)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any grid: oblique, right- or left-handed, anisotropic."""
    axes, _ = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 2**31))).normal(size=(3, 3)))
    size = draw(st.tuples(*[st.integers(1, 30)] * 3))
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return Grid(size, draw(SPACINGS), origin, tuple(axes.ravel()))


def corners(grid: Grid) -> np.ndarray:
    """LPS mm of the eight outer corners of the voxels."""
    ends = np.meshgrid(*[(-0.5, n - 0.5) for n in grid.size_xyz], indexing="ij")
    return grid.index_to_lps(np.stack(ends, axis=-1))


@given(grids(), st.tuples(*[st.floats(-5, 40)] * 3))
def test_indices_lie_in_the_patient_where_simpleitk_puts_them(grid, index_xyz):
    image = grid.image(np.zeros(grid.shape_zyx, np.uint8))
    point = grid.index_to_lps(np.array(index_xyz))
    assert np.allclose(point, image.TransformContinuousIndexToPhysicalPoint(index_xyz), atol=1e-9)
    assert np.allclose(grid.lps_to_index(point), index_xyz, atol=1e-7)


@given(grids())
def test_a_grid_survives_the_way_through_an_image(grid):
    assert Grid.of(grid.image(np.zeros(grid.shape_zyx, np.int16))) == grid


def test_grids_made_of_numpy_numbers_are_equal_and_hashable():
    plain = Grid((3, 4, 5), (1.0, 2.0, 3.0), (0.0, 1.0, 2.0))
    assert hash(plain) == hash(Grid(np.array([3, 4, 5]), np.array([1.0, 2, 3]), np.arange(3), np.eye(3)))
    assert plain.shape_zyx == (5, 4, 3) and plain.spacing_zyx == (3, 2, 1) and plain.voxel_volume_mm3 == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_xyz": (0, 4, 4)},
        {"spacing_xyz": (1, 0, 1)},
        {"spacing_xyz": (1, float("nan"), 1)},
        {"direction": (0.0,) * 9},
        {"origin_lps": (0, 0, float("inf"))},
    ],
)
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(ProstateXferError):
        Grid(**({"size_xyz": (4, 4, 4), "spacing_xyz": (1, 1, 1)} | wrong))


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ProstateXferError, match=r"\(5, 4, 3\)"):
        Grid((3, 4, 5), (1, 1, 1)).image(np.zeros((3, 4, 5)))


def test_masks_become_images_of_zeros_and_ones():
    image = Grid((2, 1, 1), (1, 1, 1)).image(np.array([[[True, False]]]))
    assert image.GetPixelID() == sitk.sitkUInt8 and sitk.GetArrayFromImage(image).tolist() == [[[1, 0]]]


def test_grids_are_the_same_only_within_the_tolerance_at_every_corner():
    grid = Grid((200, 200, 20), (0.5, 0.5, 3), (-50, -50, 10))
    angle = 1e-4  # moves the far corners by 0.01 mm
    turned = Grid(grid.size_xyz, grid.spacing_xyz, grid.origin_lps, (1, -angle, 0, angle, 1, 0, 0, 0, 1))
    assert grid.same_as(Grid(grid.size_xyz, grid.spacing_xyz, (-50, -50, 10.0005)))
    assert not grid.same_as(turned) and grid.same_as(turned, tolerance_mm=0.02)
    assert not grid.same_as(Grid((200, 200, 19), grid.spacing_xyz, grid.origin_lps))


@given(grids(), SPACINGS)
def test_a_resampled_grid_covers_exactly_the_same_box(grid, spacing_xyz):
    new = resampled_grid(grid, spacing_xyz)
    assert np.allclose(corners(new), corners(grid), atol=1e-6)
    wanted = zip(grid.spacing_xyz, spacing_xyz, grid.size_xyz, strict=True)
    assert new.size_xyz == tuple(max(1, round(old / s * n)) for old, s, n in wanted)


def test_sizes_are_rounded_half_to_even_as_nnunet_does():
    assert resampled_grid(Grid((5, 7, 9), (1, 1, 1)), (2, 2, 2)).size_xyz == (2, 4, 4)
    assert resampled_grid(Grid((5, 5, 1), (1, 1, 1)), (1, 1, 30)).size_xyz == (5, 5, 1)


@settings(max_examples=40)
@given(grids(), SPACINGS, st.sampled_from(["linear", "nearest"]))
def test_an_even_image_stays_even_up_to_the_rim(grid, spacing_xyz, interpolation):
    even = grid.image(np.full(grid.shape_zyx, 100, np.int16))
    resampled = resample_to_grid(even, resampled_grid(grid, spacing_xyz), interpolation=interpolation, outside=-1000)
    assert np.unique(sitk.GetArrayViewFromImage(resampled)).tolist() == [100]


def test_a_ramp_through_the_patient_keeps_its_values_at_every_point(oblique_direction):
    grid = Grid((20, 24, 16), (0.8, 0.7, 2.5), (-30, 12, 80), oblique_direction)
    slope = np.array([1.5, -0.7, 2.2])

    def ramp(on: Grid) -> np.ndarray:
        z, y, x = np.indices(on.shape_zyx)
        return on.index_to_lps(np.stack([x, y, z], axis=-1)) @ slope

    fine = resampled_grid(grid, (0.5, 0.6, 1.1))
    resampled = sitk.GetArrayFromImage(resample_to_grid(grid.image(ramp(grid)), fine))
    inner = (slice(2, -2),) * 3  # between the outermost centres and the edge only the border value is known
    assert np.allclose(resampled[inner], ramp(fine)[inner], atol=1e-6)


def test_points_beyond_the_edges_get_the_outside_value_and_no_others():
    image = Grid((4, 4, 4), (1, 1, 1)).image(np.full((4, 4, 4), 7, np.int16))
    around = Grid((12, 4, 4), (0.5, 1, 1), (-1.25, 0, 0))  # centres from -1.25 to 4.25; edges of the image at -0.5, 3.5
    row = sitk.GetArrayFromImage(resample_to_grid(image, around, outside=-1024))[0, 0]
    assert row.tolist() == [-1024] * 2 + [7] * 8 + [-1024] * 2


def test_integers_are_rounded_and_not_cut_off():
    image = Grid((2, 1, 1), (1, 1, 1)).image(np.array([[[-1, 0]]], np.int16))
    between = Grid((1, 1, 1), (1, 1, 1), (0.25, 0, 0))
    resampled = resample_to_grid(image, between)
    assert resampled.GetPixelID() == sitk.sitkInt16 and sitk.GetArrayFromImage(resampled).item() == -1  # -0.75


@given(grids(), SPACINGS)
@settings(max_examples=40)
def test_labels_stay_labels(grid, spacing_xyz):
    labels = np.random.default_rng(0).choice([0, 3, 200], size=grid.shape_zyx).astype(np.uint8)
    resampled = resample_to_grid(grid.image(labels), resampled_grid(grid, spacing_xyz), interpolation="nearest")
    assert set(np.unique(sitk.GetArrayViewFromImage(resampled))) <= set(np.unique(labels))


def test_an_unknown_interpolation_is_named_with_the_known_ones():
    grid = Grid((2, 2, 2), (1, 1, 1))
    with pytest.raises(ProstateXferError, match="linear, nearest"):
        resample_to_grid(grid.image(np.zeros((2, 2, 2))), grid, interpolation="cubic")
