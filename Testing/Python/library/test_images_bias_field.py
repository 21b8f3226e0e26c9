# SPDX-License-Identifier: Apache-2.0
"""N4 takes away a bias field that was put in, and leaves geometry and air alone."""

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.bias_field import corrected_bias_field
from ProstateXferLib.images.grid import Grid

GRID = Grid((64, 64, 16), (3.0, 3.0, 4.0), (-90.0, -80.0, 10.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))


def body():
    """Air, tissue of 300, an organ of 450."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in GRID.shape_zyx], indexing="ij")
    array = np.where(x**2 + y**2 < 0.85**2, 300.0, 0.0)
    array[x**2 + y**2 + (z / 1.5) ** 2 < 0.3**2] = 450.0
    return array, (x, y)


@pytest.fixture(scope="module")
def corrected():
    """(true image, image with a coil's shading, the same corrected)."""
    array, (x, y) = body()
    noise = np.random.default_rng(0).normal(0, 5, array.shape)
    shaded = (array + noise * (array > 0)) * np.exp(0.5 * x - 0.3 * y**2)
    image = GRID.image(shaded.astype(np.float32))
    return array, shaded, corrected_bias_field(image)


def variation(values):
    return values.std() / values.mean()


def test_tissue_is_even_again(corrected):
    array, shaded, image = corrected
    tissue = array == 300
    found = sitk.GetArrayFromImage(image)
    assert variation(shaded[tissue]) > 0.2
    assert variation(found[tissue]) < 0.06


def test_the_organs_contrast_stays(corrected):
    array, _, image = corrected
    found = sitk.GetArrayFromImage(image)
    assert found[array == 450].mean() / found[array == 300].mean() == pytest.approx(1.5, rel=0.08)


def test_geometry_stays_and_air_stays_empty(corrected):
    array, _, image = corrected
    assert Grid.of(image) == GRID
    assert image.GetPixelID() == sitk.sitkFloat32
    assert not sitk.GetArrayFromImage(image)[array == 0].any()


def test_the_result_is_the_same_every_time(corrected):
    _, shaded, image = corrected
    again = corrected_bias_field(GRID.image(shaded.astype(np.float32)))
    assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))


def test_integers_and_few_slices_are_taken():
    array, (x, _) = body()
    shaded = (array * np.exp(0.4 * x))[:3].astype(np.int16)
    image = Grid((64, 64, 3), (3.0, 3.0, 4.0)).image(shaded)
    found = sitk.GetArrayFromImage(corrected_bias_field(image))
    assert variation(found[array[:3] == 300]) < 0.5 * variation(shaded[array[:3] == 300])


def test_a_flat_image_is_refused():
    with pytest.raises(ProstateXferError, match="flat"):
        corrected_bias_field(GRID.image(np.zeros(GRID.shape_zyx, np.float32)))
