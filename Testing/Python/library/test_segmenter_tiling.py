# SPDX-License-Identifier: Apache-2.0
"""Tiles: where they start, how they are blended, and that cutting a slice changes nothing it should not."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.pipelines.tiling import Tiling, gaussian_weight, tile_starts

# Results of nnU-Net 2's compute_steps_for_sliding_window: (image, tile, step) -> first indices along each axis.
NNUNET_STEPS = [
    ([110, 64], [64, 64], 0.5, [[0, 23, 46], [0]]),
    ([110, 64], [64, 64], 0.25, [[0, 15, 31, 46], [0]]),
    ([110, 64], [64, 64], 1.0, [[0, 46], [0]]),
    ([320, 320], [256, 256], 0.5, [[0, 64], [0, 64]]),
    ([384, 384], [320, 256], 0.5, [[0, 64], [0, 128]]),
    ([384, 384], [320, 256], 0.25, [[0, 64], [0, 64, 128]]),
    ([24, 320, 300], [20, 256, 224], 0.5, [[0, 4], [0, 64], [0, 76]]),
    ([24, 320, 300], [20, 256, 224], 0.25, [[0, 4], [0, 64], [0, 38, 76]]),
    ([65, 64], [64, 64], 0.5, [[0, 1], [0]]),
    ([65, 64], [64, 64], 1.0, [[0, 1], [0]]),
]
# The middle row of nnU-Net's Gaussian for a tile of 20 x 24, divided by its peak, up to the peak.
NNUNET_GAUSSIAN = [
    *(0.0003355, 0.0012039, 0.0038659, 0.011109, 0.0285655, 0.0657285, 0.1353353),
    *(0.2493522, 0.4111123, 0.6065307, 0.8007374, 0.9459594, 1.0),
]
# Rows, columns: smaller than a tile of 32 x 32, smaller along one axis, exactly a tile, one pixel more, larger.
SIZES = [(20, 24), (20, 50), (32, 32), (33, 32), (70, 45), (64, 96)]


@pytest.mark.parametrize(("image", "tile", "step", "expected"), NNUNET_STEPS)
def test_tiles_start_where_nnunet_starts_them(image, tile, step, expected):
    assert [tile_starts(n, t, step) for n, t in zip(image, tile, strict=True)] == expected


def test_the_weight_is_nnunets_gaussian_and_nowhere_zero():
    weight = gaussian_weight((20, 24))
    assert weight[10, :13].numpy() == pytest.approx(NNUNET_GAUSSIAN, abs=2e-6)
    assert weight.min() > 0
    assert weight[10, 12] == weight.max() == 1


@pytest.mark.parametrize("size", SIZES)
def test_every_pixel_of_a_slice_lies_in_a_tile_and_tiles_stay_inside_the_padding(size):
    tiling = Tiling.of(size, (32, 32))
    hits = np.zeros(tiling.padded_yx, int)
    for row, column in tiling.starts:
        assert row + 32 <= tiling.padded_yx[0]
        assert column + 32 <= tiling.padded_yx[1]
        hits[row : row + 32, column : column + 32] += 1
    assert hits.min() >= 1
    assert tiling.padded_yx == tuple(max(n, 32) for n in size)


def test_without_a_tile_size_one_tile_of_whole_patches_holds_the_slice():
    tiling = Tiling.of((37, 48), None)
    assert (tiling.tile_yx, tiling.starts) == ((48, 48), ((0, 0),))


@pytest.mark.parametrize("size", SIZES)
def test_constant_logits_stay_constant_when_tiles_are_blended(size):
    tiling = Tiling.of(size, (32, 32))
    constants = torch.tensor([-7.5, 0.25, 1234.0]).view(1, 3, 1, 1)
    blended = tiling.blend(constants.expand(2 * len(tiling.starts), -1, 32, 32))
    assert blended.shape == (2, 3, *size)
    assert torch.allclose(blended, constants.expand_as(blended), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_cutting_and_blending_gives_the_slice_back(size):
    slices = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    tiling = Tiling.of(size, (32, 32))
    assert torch.allclose(tiling.blend(tiling.cut(slices))[:, 0], slices, atol=1e-6)


def test_overlapping_tiles_are_averaged_with_the_gaussian_as_weight():
    tiling = Tiling.of((16, 24), (16, 16))
    assert tiling.starts == ((0, 0), (0, 8))
    tiles = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    weight = gaussian_weight((16, 16))
    first, second = tiles[0, 0], tiles[1, 0]
    left, right = weight[:, 8:], weight[:, :8]
    expected = torch.cat(
        [first[:, :8], (first[:, 8:] * left + second[:, :8] * right) / (left + right), second[:, 8:]], dim=1
    )
    assert torch.allclose(tiling.blend(tiles)[0, 0], expected, atol=1e-6)


def image_of(size_yx, *, slices=2, seed=0):
    grid = Grid((*size_yx[::-1], slices), (1.0, 1.0, 3.0))
    return grid.image(np.random.default_rng(seed).integers(-900, 900, grid.shape_zyx).astype(np.int16))


@pytest.mark.parametrize("size", SIZES)
def test_a_network_that_judges_pixels_alone_labels_tiled_slices_like_whole_ones(
    tmp_path, threshold_state, segmentation_card, size
):
    card = segmentation_card("gland", preprocessing={"tile_yx": (32, 32)})
    path = write_checkpoint(tmp_path / "m.safetensors", card, threshold_state(gland=(0.2005,)))
    image = image_of(size)
    labels = Segmenter(path, device="cpu").predict(image).labels
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(image) > 200.5)


def foreground(path, image, **options):
    return sitk.GetArrayFromImage(Segmenter(path, device="cpu", **options).predict(image).probabilities["Prostate"])


@pytest.fixture
def random_checkpoint(tmp_path, random_state, segmentation_card):
    """Path of a random network whose preprocessing has the given tile."""

    def make(tile_yx):
        card = segmentation_card("gland", preprocessing={"tile_yx": tile_yx})
        return write_checkpoint(tmp_path / f"{tile_yx}.safetensors", card, random_state())

    return make


def test_a_slice_of_exactly_one_tile_is_run_whole(random_checkpoint):
    image = image_of((32, 48))
    one, whole = (foreground(random_checkpoint(tile), image) for tile in ((32, 48), None))
    assert np.allclose(one, whole, atol=1e-5)


def test_a_slice_smaller_than_a_tile_stands_in_the_middle_of_zeros(random_checkpoint):
    small = image_of((21, 40))
    padded = np.pad(sitk.GetArrayFromImage(small), ((0, 0), (5, 6), (4, 4)))  # 0 stays 0: the window is -1000..1000
    whole = foreground(random_checkpoint(None), Grid((48, 32, 2), (1.0, 1.0, 3.0)).image(padded), skip_outside=False)
    tiled = foreground(random_checkpoint((32, 48)), small, skip_outside=False)
    # Not to the last bit: oneDNN may sum in another order for another number of threads.
    assert np.allclose(tiled, whole[:, 5:26, 4:44], atol=1e-5)


def test_a_slice_larger_than_a_tile_is_the_weighted_mean_of_its_tiles(random_checkpoint):
    image = image_of((48, 32), slices=1)
    values = torch.from_numpy(sitk.GetArrayFromImage(image)[0] / np.float32(1000))
    path = random_checkpoint((32, 32))
    network = Segmenter(path, device="cpu").checkpoints[0].build()
    weight, total, norm = gaussian_weight((32, 32)), torch.zeros(2, 48, 32), torch.zeros(48, 32)
    with torch.inference_mode():
        for row in (0, 16):
            total[:, row : row + 32] += network(values[None, None, row : row + 32])["gland"][0] * weight
            norm[row : row + 32] += weight
    expected = torch.softmax(total / norm, dim=0)[1].numpy()
    assert foreground(path, image, skip_outside=False)[0] == pytest.approx(expected, abs=1e-5)
