# SPDX-License-Identifier: Apache-2.0
"""Segmenter: labels lie where the image's structures lie, however the image was acquired and stored."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.grids import ALONG_AXES, voxel_centres_lps
from made_images.storage_order import reordered, stored_otherwise
from made_images.voxels import array_of, noise

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.pipelines.segmenter import Segmenter

LIMIT = 200.5  # grey value; no integer image touches it


@pytest.fixture(scope="module")
def make_segmenter(tmp_path_factory, threshold_state, segmentation_card):
    """A Segmenter that labels every voxel above LIMIT; keywords go into the preprocessing."""

    def make(**preprocessing):
        path = tmp_path_factory.mktemp("model") / "threshold.safetensors"
        card = segmentation_card("gland", preprocessing=preprocessing)
        return Segmenter(write_checkpoint(path, card, threshold_state(gland=(LIMIT / 1000,))), device="cpu")

    return make


@pytest.fixture(scope="module")
def segmenter(make_segmenter):
    return make_segmenter()


@pytest.mark.parametrize("direction", ALONG_AXES.values(), ids=ALONG_AXES)
def test_labels_are_the_voxels_above_the_threshold_on_the_images_own_grid(segmenter, direction):
    grid = Grid((37, 50, 20), (0.7, 0.9, 3.0), (-40.5, 12.0, 7.25), direction)
    image = noise(grid)
    labels = segmenter.predict(image).labels
    assert Grid.of(labels) == Grid.of(image)
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(array_of(labels), array_of(image) > LIMIT)


def test_an_oblique_image_is_labelled_voxel_by_voxel_too(segmenter, oblique_direction):
    grid = Grid((33, 24, 19), (1.1, 0.9, 1.3), (5.0, -60.0, 80.0), oblique_direction)
    image = noise(grid)
    labels = segmenter.predict(image).labels
    assert Grid.of(labels) == Grid.of(image)
    assert np.array_equal(array_of(labels), array_of(image) > LIMIT)


@pytest.mark.parametrize("size", [(40, 24, 1), (8, 8, 1), (1, 40, 24), (16, 16, 3), (17, 31, 2)])
def test_small_and_single_slice_images_keep_their_shape(segmenter, size):
    grid = Grid(size, (1.0, 1.0, 4.0))
    image = noise(grid)
    assert np.array_equal(array_of(segmenter.predict(image).labels), array_of(image) > LIMIT)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_pixel_type_gives_the_same_labels(make_segmenter, dtype):
    grid = Grid((24, 20, 3), (1.0, 1.0, 3.0))
    values = array_of(noise(grid, low=0, high=120))
    window = make_segmenter(intensity=IntensityRule("window", 0.0, 100.0))  # LIMIT lies at (0.2005 + 1) / 2 * 100
    assert np.array_equal(array_of(window.predict(grid.image(values.astype(dtype))).labels), values > 60.025)


def test_the_probability_is_above_one_half_where_the_label_is(segmenter):
    grid = Grid((24, 20, 3), (1.0, 1.0, 3.0))
    found = segmenter.predict(noise(grid))
    probability = found.probabilities["Prostate"]
    assert Grid.of(probability) == grid
    assert probability.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(array_of(probability) > 0.5, array_of(found.labels) == 1)


@pytest.mark.parametrize("preprocessing", ["as it is", "resampled"])
def test_an_image_stored_in_another_order_gets_the_same_result_to_the_last_bit(
    tmp_path, random_state, segmentation_card, preprocessing
):
    """The network is random and sees the whole slice: any slip in the bookkeeping of axes changes everything."""
    changes = {"intensity": IntensityRule("zscore", lower_percentile=0.5, upper_percentile=99.5)}
    if preprocessing == "resampled":
        changes |= {"spacing_yx_mm": (1.1, 1.1), "tile_yx": (32, 32)}
    card = segmentation_card("gland", preprocessing=changes)
    segmenter = Segmenter(write_checkpoint(tmp_path / "random.safetensors", card, random_state()), device="cpu")
    grid = Grid((32, 40, 2), (0.8, 1.2, 3.0), (10.0, -20.0, 5.0))
    image = sitk.Cast(noise(grid), sitk.sitkFloat32)
    expected = array_of(segmenter.predict(image).probabilities["Prostate"])
    assert 0.02 < (expected > 0.5).mean() < 0.98  # else there is nothing to tell apart
    for axes_xyz, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        if preprocessing == "resampled" and sum(flips) != 1:
            continue  # time: 18 of 48 say enough
        copy = stored_otherwise(image, axes_xyz, flips)
        found = segmenter.predict(copy).probabilities["Prostate"]
        assert Grid.of(found) == Grid.of(copy)
        assert np.array_equal(array_of(found), reordered(expected, axes_xyz, flips)), (axes_xyz, flips)


@pytest.mark.parametrize(
    ("spacing", "network_mm"),
    [((0.5, 0.5, 3.0), (1.0, 1.0)), ((1.4, 1.4, 3.0), (1.0, 1.0)), ((0.6, 1.1, 2.0), (0.8, 1.3))],
    ids=["finer image", "coarser image", "oblong pixels"],
)
@pytest.mark.parametrize("turn_deg", [0, 20])
def test_a_sphere_keeps_its_place_and_volume_in_millimetres_at_any_spacing(
    make_segmenter, spacing, network_mm, turn_deg
):
    radius, centre = 18.0, np.array([7.3, -31.9, 55.0])
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    size = tuple(int(np.ceil(n / mm)) for n, mm in zip((71, 64, 48), spacing, strict=True))
    half = direction @ ((np.array(size) - 1) * spacing / 2)
    grid = Grid(size, spacing, centre - half + (4.0, -3.0, 1.0), direction)
    distance = np.linalg.norm(voxel_centres_lps(grid) - centre, axis=-1)
    # The grey value passes LIMIT at the surface with a slope of 50 per mm, so that interpolation keeps its place.
    image = grid.image((LIMIT + 50 * np.clip(radius - distance, -10, 10)).astype(np.float32))
    segmenter = make_segmenter(spacing_yx_mm=network_mm)
    (row,) = measure(segmenter.predict(image))
    assert row.centroid_lps == pytest.approx(tuple(centre), abs=0.15)
    assert row.volume_cm3 == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
