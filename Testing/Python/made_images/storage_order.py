# SPDX-License-Identifier: Apache-2.0
"""The same image in the patient, stored with its axes in another order or the other way round."""

import numpy as np

from made_images.voxels import array_of
from ProstateXferLib.images.grid import Grid


def stored_otherwise(image, axes_xyz, flips):
    """The same voxels at the same places in the patient.

    `axes_xyz`: which axes of the image become the first, second and third; `flips`: whether each of the image's axes is
    stored the other way round.
    """
    grid = Grid.of(image)
    first = [grid.size_xyz[axis] - 1 if flip else 0 for axis, flip in enumerate(flips)]
    stored = Grid(
        [grid.size_xyz[axis] for axis in axes_xyz],
        [grid.spacing_xyz[axis] for axis in axes_xyz],
        grid.index_to_lps(first),
        (grid.direction_matrix * np.where(flips, -1, 1))[:, list(axes_xyz)],
    )
    return stored.image(reordered(array_of(image), axes_xyz, flips))


def reordered(array_zyx, axes_xyz, flips):
    """The voxels (z, y, x) of `stored_otherwise`."""
    array_xyz = np.flip(array_zyx.transpose(2, 1, 0), [axis for axis in range(3) if flips[axis]])
    return array_xyz.transpose(axes_xyz).transpose(2, 1, 0)
