# SPDX-License-Identifier: Apache-2.0
"""Uncertainty: the entropy of known probabilities."""

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.pipelines.uncertainty import binary_entropy_bits, uncertainty_map

GRID = Grid((3, 2, 1), (0.5, 0.7, 3.0), (1.0, 2.0, 3.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))


def image(*values):
    return GRID.image(np.array(values, np.float32).reshape(GRID.shape_zyx))


@pytest.mark.parametrize(
    ("probability", "bits"),
    [
        (0.0, 0.0),
        (1.0, 0.0),
        (0.5, 1.0),
        (0.25, 2 - 0.75 * np.log2(3)),
        (0.75, 2 - 0.75 * np.log2(3)),
        (1 / 3, np.log2(3) - 2 / 3),
        (1e-30, 1e-30 * (np.log2(1e30) + 1 / np.log(2))),
        (1.0000001, 0.0),
        (-1e-9, 0.0),
    ],
)
def test_the_entropy_of_one_probability(probability, bits):
    assert binary_entropy_bits(np.array([probability]))[0] == pytest.approx(bits, rel=1e-6, abs=0)


def test_the_largest_over_the_structures_counts_on_the_grid_of_the_image():
    gland, lesion = image(0, 0.5, 1, 0.25, 0, 1), image(0.5, 0, 0.25, 0.25, 0, 1)
    found = uncertainty_map([gland, lesion])
    quarter = 2 - 0.75 * np.log2(3)
    assert Grid.of(found) == GRID
    assert found.GetPixelID() == sitk.sitkFloat32
    assert sitk.GetArrayFromImage(found).ravel() == pytest.approx([1, 1, quarter, quarter, 0, 0], rel=1e-6)


def test_nothing_segmented_has_no_uncertainty():
    with pytest.raises(ProstateXferError, match="There is no probability"):
        uncertainty_map([])
