# SPDX-License-Identifier: Apache-2.0
"""A label map of a gland with a lesion in it, both boxes."""

import numpy as np
import SimpleITK as sitk

from made_images.grids import OBLIQUE

_GLAND, _LESION = np.s_[2:8, 3:11, 3:12], np.s_[3:5, 5:8, 5:8]  # boxes of voxels (z, y, x)


def gland_with_lesion(direction=OBLIQUE, *, gland=1, lesion=2) -> sitk.Image:
    """uint8 labels (12, 14, 16) of 0.5 x 0.7 x 3 mm, off centre; `gland` and `lesion` are their values."""
    voxels = np.zeros((12, 14, 16), np.uint8)
    voxels[_GLAND] = gland
    voxels[_LESION] = lesion
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 0.7, 3.0))
    image.SetOrigin((10.1, -20.2, 30.3))
    image.SetDirection(np.ravel(direction).tolist())
    return image
