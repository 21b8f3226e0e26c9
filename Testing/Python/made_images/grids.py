# SPDX-License-Identifier: Apache-2.0
"""Grids in every direction, and where their voxels lie in the patient."""

import numpy as np

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom.ellipsoid import rotation

OBLIQUE = np.asarray(rotation(x_deg=23, y_deg=-14, z_deg=31))
"""(3, 3), far from every axis of the patient."""
ALONG_AXES = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "left-handed": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "all axes flipped": (-1, 0, 0, 0, -1, 0, 0, 0, -1),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
}
"""Directions whose axes are those of the patient, row by row."""


def centered_grid(size_xyz, spacing_xyz, direction=ALONG_AXES["axial"], center_lps=(0, 0, 0)) -> Grid:
    """A grid whose middle is a point; `direction` is a matrix or its nine numbers, row by row."""
    direction = np.reshape(direction, (3, 3))
    middle_mm = (np.asarray(size_xyz) - 1) / 2 * np.asarray(spacing_xyz)
    return Grid(size_xyz, spacing_xyz, tuple(np.asarray(center_lps) - direction @ middle_mm), tuple(direction.ravel()))


def voxel_centres_lps(grid) -> np.ndarray:
    """(z, y, x, 3): the centre of every voxel in LPS mm."""
    return grid.index_to_lps(np.indices(grid.shape_zyx)[::-1].transpose(1, 2, 3, 0))
