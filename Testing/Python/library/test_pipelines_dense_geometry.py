# SPDX-License-Identifier: Apache-2.0
"""Dense networks in the Segmenter: labels lie where the image's structures lie, in 2-D and 3-D, tiled or whole."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dense_models.models import WINDOW, Made, card_of
from made_images.grids import ALONG_AXES, voxel_centres_lps
from made_images.voxels import array_of, noise

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import read_image
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.pipelines.segmenter import Segmenter

LIMIT = 200.5  # grey value; no integer image touches it
PLANS = {
    2: planned_unet((16, 16), (1.0, 1.0), channels=1, classes=2, base_features=2),
    3: planned_unet((8, 16, 16), (2.0, 1.0, 1.0), channels=1, classes=2, base_features=2),
}


class Pointwise(torch.nn.Module):
    """Logit of the structure above 0 where the first channel is above LIMIT; refuses sides no U-Net would take."""

    def __init__(self, multiple):
        super().__init__()
        self.multiple, self.seen = multiple, []

    def forward(self, image):
        assert not any(side % step for side, step in zip(image.shape[2:], self.multiple, strict=True))
        self.seen.append(tuple(image.shape[2:]))
        signed = 40 * (image[:, :1] - LIMIT / 1000)
        return torch.cat([-signed, signed], dim=1)


def segmenter_of(dimensions, *, tta=False, **preprocessing):
    plan = PLANS[dimensions]
    multiple = [int(np.prod(axis)) for axis in zip(*plan["strides"], strict=True)]
    card = card_of("plain_conv_unet", plan, preprocessing={"intensity": WINDOW} | preprocessing)
    network = Pointwise(multiple)
    return Segmenter(Made(card, None, "0" * 64, network), device="cpu", tta=tta), network


TILES = {
    "2-D whole": (2, {}),
    "2-D tiled": (2, {"tile_yx": (16, 16)}),
    "3-D whole": (3, {}),
    "3-D tiled": (3, {"tile_zyx": (8, 16, 16)}),
    "3-D constant": (3, {"tile_zyx": (8, 16, 16), "blending": "constant", "overlap": 0.25}),
}


@pytest.mark.parametrize("direction", ALONG_AXES.values(), ids=ALONG_AXES)
@pytest.mark.parametrize(("dimensions", "preprocessing"), TILES.values(), ids=TILES)
def test_labels_are_the_voxels_above_the_threshold_on_the_images_own_grid(dimensions, preprocessing, direction):
    grid = Grid((27, 33, 11), (0.7, 0.9, 3.0), (-40.5, 12.0, 7.25), direction)
    image = noise(grid)
    found = segmenter_of(dimensions, **preprocessing)[0].predict(image)
    assert Grid.of(found.labels) == grid
    assert found.labels.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(array_of(found.labels), array_of(image) > LIMIT)


@pytest.mark.parametrize(("dimensions", "preprocessing"), TILES.values(), ids=TILES)
def test_an_oblique_image_is_labelled_voxel_by_voxel_too(dimensions, preprocessing, oblique_direction):
    grid = Grid((21, 24, 13), (1.1, 0.9, 1.3), (5.0, -60.0, 80.0), oblique_direction)
    image = noise(grid)
    labels = segmenter_of(dimensions, tta=True, **preprocessing)[0].predict(image).labels
    assert Grid.of(labels) == grid
    assert np.array_equal(array_of(labels), array_of(image) > LIMIT)


@pytest.mark.parametrize("size", [(40, 24, 1), (1, 9, 8), (8, 9, 4), (17, 31, 2)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_small_and_single_slice_images_keep_their_shape(dimensions, size):
    grid = Grid(size, (1.0, 1.0, 4.0))
    image = noise(grid)
    assert np.array_equal(array_of(segmenter_of(dimensions)[0].predict(image).labels), array_of(image) > LIMIT)


@pytest.mark.parametrize(("dimensions", "preprocessing"), TILES.values(), ids=TILES)
def test_windows_have_the_size_that_the_card_gives(dimensions, preprocessing):
    grid = Grid((40, 24, 9), (1.0, 1.0, 3.0))
    segmenter, network = segmenter_of(dimensions, **preprocessing)
    segmenter.predict(noise(grid))
    whole = {2: (24, 40), 3: (10, 24, 40)}[dimensions]
    tile = preprocessing.get("tile_yx") or preprocessing.get("tile_zyx")
    multiple = network.multiple
    rounded = tuple(-(-side // step) * step for side, step in zip(whole, multiple, strict=True))
    assert set(network.seen) == {tile or rounded}


def ball_centroid_lps(image):
    """Centre of gravity of the labelled voxels."""
    z, y, x = np.nonzero(array_of(image))
    return Grid.of(image).index_to_lps(np.stack([x, y, z], axis=-1)).mean(axis=0)


RESAMPLED = {
    "2-D in-plane": (2, {"spacing_yx_mm": (1.3, 0.8), "tile_yx": (16, 16)}),
    "2-D all axes": (2, {"spacing_zyx_mm": (1.5, 1.1, 1.1)}),
    "2-D resized": (2, {"resize_yx": (64, 32)}),
    "3-D finer": (3, {"spacing_zyx_mm": (1.2, 0.8, 0.8), "tile_zyx": (16, 32, 32)}),
    "3-D coarser": (3, {"spacing_zyx_mm": (3.5, 1.7, 1.4)}),
    "3-D in-plane": (3, {"spacing_yx_mm": (1.5, 1.5)}),
}


@pytest.mark.parametrize("direction", ["axial", "left-handed", "sagittal", "oblique"])
@pytest.mark.parametrize(("dimensions", "preprocessing"), RESAMPLED.values(), ids=RESAMPLED)
def test_a_ball_keeps_its_place_and_volume_through_resampling(dimensions, preprocessing, direction, oblique_direction):
    turned = oblique_direction if direction == "oblique" else ALONG_AXES[direction]
    grid = Grid((36, 40, 22), (1.0, 1.1, 2.2), (13.0, -20.0, 41.0), turned)
    centre, radius_mm = grid.index_to_lps(np.array([16.3, 21.7, 9.6])), 11.0
    distance_mm = np.linalg.norm(voxel_centres_lps(grid) - centre, axis=-1)
    # A slope crosses the threshold at the ball's surface, so that interpolation leaves the surface where it is.
    image = grid.image((LIMIT - 40 * (distance_mm - radius_mm)).clip(-900, 900).astype(np.float32))
    labels = segmenter_of(dimensions, **preprocessing)[0].predict(image).labels
    assert Grid.of(labels) == grid
    assert np.linalg.norm(ball_centroid_lps(labels) - centre) < 0.25
    volume_mm3 = array_of(labels).sum() * grid.voxel_volume_mm3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3, rel=0.06)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_real_t2w_is_labelled_voxel_by_voxel(dimensions, real_data):
    files = sorted((real_data / "real" / "prostate_t2w").glob("*/*t2w*")) or [None]
    if files[0] is None:
        pytest.skip("there is no real T2w image in the data folder")
    image = read_image(files[0])
    values = array_of(image)
    limit = np.floor(np.quantile(values, 0.9)) + 0.5
    window = IntensityRule("window", limit - LIMIT - 1000, limit - LIMIT + 1000)  # the limit lies where LIMIT did
    tile = {"tile_yx": (256, 256)} if dimensions == 2 else {"tile_zyx": (16, 160, 160)}
    labels = segmenter_of(dimensions, intensity=window, **tile)[0].predict(image).labels
    assert Grid.of(labels).same_as(Grid.of(image))
    clipped = np.clip(values, limit - LIMIT - 1000, limit - LIMIT + 1000)
    assert np.array_equal(array_of(labels) == 1, clipped > limit)
    assert 0.05 < (array_of(labels) == 1).mean() < 0.15
