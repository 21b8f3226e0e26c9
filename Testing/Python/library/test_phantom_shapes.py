# SPDX-License-Identifier: Apache-2.0
"""The shapes and textures that the phantom is made of."""

import numpy as np
import pytest
from made_images.grids import OBLIQUE, centered_grid, voxel_centres_lps

from ProstateXferLib.images.phantom.blocks import Block, Points
from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid, rotation
from ProstateXferLib.images.phantom.shapes import BentTube, Capsule, SuperellipsePrism, Union
from ProstateXferLib.images.phantom.texture import WaveField


def test_tissue_texture_is_the_same_at_a_point_whatever_the_grid():
    field = WaveField.random(np.random.default_rng(1), (4.0, 20.0))
    coarse = centered_grid((9, 9, 9), (2.0, 2.0, 2.0), OBLIQUE)
    fine = centered_grid((17, 17, 17), (1.0, 1.0, 1.0), OBLIQUE)
    values = field.values(Block.whole(fine))
    np.testing.assert_allclose(values[::2, ::2, ::2], field.values(Block.whole(coarse)), atol=1e-3)
    assert field.values(Block.whole(centered_grid((60,) * 3, (3.0,) * 3))).std() == pytest.approx(1, abs=0.1)


SHAPES = {
    "ellipsoid": Ellipsoid((1, 2, 3), (8, 5, 11), rotation(10, 20, 30)),
    "capsule": Capsule((-6, 2, 3), (7, -4, 8), (3.0, 5.0)),
    "prism": SuperellipsePrism((1.0, -2.0), (9.0, 6.0), 2.5),
    "tube": BentTube(0.5, 1.0, 2.0, 0.02, 0.01, (6.0, 5.0)),
    "union": Union((Ellipsoid((4, 0, 0), (6, 5, 4)), Capsule((-7, 0, 0), (2, 3, 4), (3.0, 3.0)))),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_is_the_same_on_a_grid_and_at_loose_points_and_stays_in_its_box(shape):
    grid = centered_grid((31, 29, 27), (1.1, 1.2, 1.3), OBLIQUE)
    points = voxel_centres_lps(grid)
    on_grid = np.broadcast_to(shape.distance_mm(Block.whole(grid)), grid.shape_zyx)
    inside = shape.distance_mm(Points(points)) <= 0
    np.testing.assert_array_equal(on_grid <= 0, inside)
    low, high = shape.bounds_lps
    assert inside.any()
    assert ((points[inside] >= low) & (points[inside] <= high)).all()


def test_the_distance_to_an_ellipsoid_is_in_millimetres_near_its_surface():
    shape = SHAPES["ellipsoid"]
    normals = (shape.surface_points() - np.asarray(shape.center_lps)) @ np.asarray(shape.axes).T
    normals = (normals / np.asarray(shape.radii_mm) ** 2) @ np.asarray(shape.axes)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for step_mm in (-0.5, 0.0, 0.5):
        distance = shape.distance_mm(Points(shape.surface_points() + step_mm * normals))
        np.testing.assert_allclose(distance, step_mm, atol=0.06)
