# SPDX-License-Identifier: Apache-2.0
"""Volume, centroid, extent and diameter against boxes and ellipsoids whose values are known."""

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics import (
    bounds_lps,
    centroid_distance_mm,
    centroid_lps,
    extent_mm,
    max_diameter_mm,
    volume_cm3,
)


def rotation(axis, degrees):
    """Rotation about one of the axes 0, 1, 2."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    i, j = [a for a in range(3) if a != axis]
    matrix[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return matrix


OBLIQUE = rotation(0, 24) @ rotation(2, -11)
GRIDS = {
    "isotropic": Grid((60, 60, 60), (1.0, 1.0, 1.0), (-30.0, -30.0, -30.0)),
    "anisotropic": Grid((120, 110, 24), (0.5, 0.55, 3.0), (-31.0, -29.0, -35.0)),
    "oblique": Grid((120, 110, 30), (0.5, 0.55, 3.0), (-25.0, -5.0, -55.0), tuple(OBLIQUE.ravel())),
    "left-handed": Grid((60, 60, 60), (1.0, 1.1, 1.2), (30.0, -33.0, -36.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "axes swapped": Grid((24, 110, 120), (3.0, 0.55, 0.5), (-35.0, -30.0, 30.0), (0, 0, 1, 0, 1, 0, -1, 0, 0)),
}
CENTRE_LPS, SEMI_AXES_MM = np.array((2.0, -1.5, 3.0)), np.array((21.0, 16.0, 18.0))


def ellipsoid_on(grid):
    """An ellipsoid along the patient's axes, sampled at the voxel centres of any grid."""
    indices_zyx = np.indices(grid.shape_zyx).reshape(3, -1).T
    points = grid.index_to_lps(indices_zyx[:, ::-1])
    inside = (((points - CENTRE_LPS) / SEMI_AXES_MM) ** 2).sum(axis=1) <= 1
    return grid.image(inside.reshape(grid.shape_zyx))


@pytest.fixture(scope="module", params=GRIDS, ids=str)
def ellipsoid(request):
    return ellipsoid_on(GRIDS[request.param])


def test_an_ellipsoid_has_its_analytic_volume_and_centroid(ellipsoid):
    assert volume_cm3(ellipsoid) == pytest.approx(4 / 3 * math.pi * math.prod(SEMI_AXES_MM) / 1000, rel=0.01)
    assert centroid_lps(ellipsoid) == pytest.approx(tuple(CENTRE_LPS), abs=0.1)


def test_an_ellipsoid_has_its_analytic_extent_and_diameter(ellipsoid):
    grid = Grid.of(ellipsoid)
    # A voxel's shadow on a patient axis is how much the staircase may stick out.
    voxel_mm = np.abs(grid.direction_matrix) @ np.array(grid.spacing_xyz)
    assert np.all(np.abs(np.array(extent_mm(ellipsoid)) - 2 * SEMI_AXES_MM) <= voxel_mm)
    assert max_diameter_mm(ellipsoid) == pytest.approx(2 * SEMI_AXES_MM.max(), abs=max(grid.spacing_xyz) / 2)


def test_volume_and_centroid_equal_those_of_simpleitk(ellipsoid):
    truth = sitk.LabelShapeStatisticsImageFilter()
    truth.Execute(ellipsoid)
    assert volume_cm3(ellipsoid) == pytest.approx(truth.GetPhysicalSize(1) / 1000, rel=1e-12)
    assert centroid_lps(ellipsoid) == pytest.approx(truth.GetCentroid(1), abs=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_a_box_of_voxels_has_the_bounds_of_its_corners(name):
    grid = GRIDS[name]
    mask = np.zeros(grid.shape_zyx, dtype=bool)
    mask[5:9, 10:21, 7:20] = True
    corners = np.array(list(itertools.product((6.5, 19.5), (9.5, 20.5), (4.5, 8.5))))
    corners_lps = grid.index_to_lps(corners)
    least, greatest = bounds_lps(grid.image(mask))
    assert least == pytest.approx(corners_lps.min(axis=0))
    assert greatest == pytest.approx(corners_lps.max(axis=0))
    assert extent_mm(grid.image(mask)) == pytest.approx(np.ptp(corners_lps, axis=0))


def test_one_voxel_has_its_largest_spacing_as_diameter():
    assert max_diameter_mm(np.ones((1, 1, 1)), (3.0, 0.5, 0.4)) == 3.0


@pytest.mark.parametrize("axis", range(3))
def test_a_row_of_voxels_is_as_long_as_its_voxels_together(axis):
    shape = [1, 1, 1]
    shape[axis] = 7
    assert max_diameter_mm(np.ones(shape), (2.0, 2.0, 2.0)) == 14.0


def test_a_flat_plate_has_a_diameter():
    # From the left face of one corner voxel to the right face of the opposite one.
    assert max_diameter_mm(np.ones((1, 30, 40)), (1.0, 1.0, 1.0)) == pytest.approx(math.hypot(40, 29))


def test_the_diameter_of_a_sphere_is_that_of_the_sphere():
    ball = ((np.indices((45, 45, 45)) - 22) ** 2).sum(axis=0) <= 20.0**2
    assert max_diameter_mm(ball, (1.0, 1.0, 1.0)) == pytest.approx(41.0, abs=0.1)


def every_outer_face_centre(mask, spacing_zyx):
    """All exposed faces, one by one: slow and obvious."""
    points = []
    for index in np.argwhere(mask):
        for axis, step in itertools.product(range(3), (-1, 1)):
            neighbour = index.copy()
            neighbour[axis] += step
            outside = not 0 <= neighbour[axis] < mask.shape[axis]
            if outside or not mask[tuple(neighbour)]:
                face = index.astype(float)
                face[axis] += step / 2
                points.append(face * spacing_zyx)
    return np.array(points)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(0.2, 5.0)] * 3))
def test_the_diameter_is_the_largest_distance_between_any_two_outer_faces(seed, spacing_zyx):
    random = np.random.default_rng(seed)
    mask = random.random(tuple(random.integers(1, 6, size=3))) < 0.3
    mask.flat[random.integers(mask.size)] = True
    faces = every_outer_face_centre(mask, spacing_zyx)
    expected = max(np.linalg.norm(faces - face, axis=1).max() for face in faces)
    assert max_diameter_mm(mask, spacing_zyx) == pytest.approx(expected)


def test_a_hull_and_all_pairs_give_the_same_diameter(monkeypatch):
    mask = np.random.default_rng(3).random((8, 40, 40)) < 0.02
    by_hull = max_diameter_mm(mask, (3.0, 0.5, 0.5))
    monkeypatch.setattr("ProstateXferLib.metrics.shape._hull_points", lambda points: points)
    assert max_diameter_mm(mask, (3.0, 0.5, 0.5)) == pytest.approx(by_hull)


def test_a_shape_too_flat_for_a_hull_still_has_a_diameter():
    assert max_diameter_mm(np.ones((1, 60, 60)), (1e-12, 1.0, 1.0)) == pytest.approx(math.hypot(60, 59))


def test_an_empty_mask_has_no_volume_and_no_place():
    empty = sitk.Image(4, 4, 4, sitk.sitkUInt8)
    assert volume_cm3(empty) == 0.0
    assert math.isnan(max_diameter_mm(empty))
    assert np.isnan(centroid_lps(empty)).all()
    assert np.isnan(extent_mm(empty)).all()


def test_the_distance_of_centroids_is_the_shift_between_them():
    grid = GRIDS["oblique"]
    first, second = (np.zeros(grid.shape_zyx, dtype=bool) for _ in range(2))
    first[4:8, 20:30, 20:30] = True
    second[6:10, 24:34, 20:30] = True
    expected = math.hypot(2 * 3.0, 4 * 0.55)
    assert centroid_distance_mm(grid.image(first), grid.image(second)) == pytest.approx(expected)
    assert centroid_distance_mm(first, second, grid.spacing_zyx) == pytest.approx(expected)
    assert math.isnan(centroid_distance_mm(first, np.zeros_like(second), grid.spacing_zyx))


def test_an_array_needs_its_spacing_and_an_image_has_it():
    with pytest.raises(ProstateXferError, match="needs its spacing"):
        volume_cm3(np.ones((2, 2, 2)))
    with pytest.raises(ProstateXferError, match="carries its own spacing"):
        volume_cm3(sitk.Image(2, 2, 2, sitk.sitkUInt8), (1.0, 1.0, 1.0))
    with pytest.raises(ProstateXferError, match="three axes are needed"):
        volume_cm3(np.ones((2, 2)), (1.0, 1.0))
