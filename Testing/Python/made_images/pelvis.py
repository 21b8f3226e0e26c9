# SPDX-License-Identifier: Apache-2.0
"""A pelvis of boxes, which the models of `cli/conftest.py` segment voxel by voxel."""

import numpy as np

from ProstateXferLib.images.grid import Grid

GRID = Grid((48, 40, 4), (1.0, 1.2, 3.0), (-20.0, 5.0, 30.0))
VOXEL_CM3 = 3.6 / 1000


def pelvis():
    """int16 (z, y, x): tissue 0, a gland of 600 with a lesion of -500 in it."""
    array = np.zeros(GRID.shape_zyx, np.int16)
    array[:, 0] = -900
    array[1:3, 10:30, 12:36] = 600
    array[1:3, 14:18, 20:26] = -500
    return array


def pelvis_labels():
    """(z, y, x): 1 in the gland, 2 in its lesion."""
    return np.select([pelvis() == 600, pelvis() == -500], [1, 2], 0)
