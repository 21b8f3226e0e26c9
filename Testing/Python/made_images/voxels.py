# SPDX-License-Identifier: Apache-2.0
"""Voxels of an image, and images that are noise."""

import numpy as np
import SimpleITK as sitk


def array_of(image):
    """Voxels (z, y, x)."""
    return sitk.GetArrayFromImage(image)


def arrays_of(study):
    """Voxels (z, y, x) of the images that a phantom's study has, by their names."""
    names = ("t2w", "ct", "cbct", "labels", "anatomy", "lesions")
    return {name: array_of(getattr(study, name)) for name in names if getattr(study, name) is not None}


def noise(grid, seed=0, *, low=-900, high=900):
    """An int16 image of whole numbers from low to high - 1."""
    return grid.image(np.random.default_rng(seed).integers(low, high, grid.shape_zyx).astype(np.int16))
