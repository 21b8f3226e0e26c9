# SPDX-License-Identifier: Apache-2.0
"""Windows cover a volume as nnU-Net's do, and what they say is blended back to where it was cut."""

import numpy as np
import pytest
import torch

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.pipelines.blend import Blend, background_logits
from ProstateXferLib.pipelines.windows import Windows

RULE = IntensityRule("zscore")


def windows(shape, *, dimensions=3, **preprocessing):
    return Windows.of(shape, Preprocessing(RULE, **preprocessing), (2, 4, 4)[-dimensions:])


def blend_of(cut, channels):
    return Blend(cut, cut.weight(), classes=channels, device=torch.device("cpu"))


def blended(cut, function, channels):
    blend, padded = blend_of(cut, channels), cut.padded(torch.zeros(1, *cut.shape_zyx))
    for start in cut.starts:
        blend.add(start, function(cut.cut(padded, [start])[0], start))
    return blend.result(background_logits([channels]))


def test_starts_are_nnunets():
    """Sizes, tile and positions of the reference run (nnunet_misc.json): steps of half a tile, spread evenly."""
    cut = windows((20, 30, 16), tile_zyx=(8, 12, 16))
    assert sorted({start[0] for start in cut.starts}) == [0, 4, 8, 12]
    assert sorted({start[1] for start in cut.starts}) == [0, 6, 12, 18]
    assert {start[2] for start in cut.starts} == {0}
    assert cut.starts == tuple(sorted(cut.starts))


def test_a_2d_networks_windows_lie_once_in_every_plane():
    cut = windows((5, 12, 20), dimensions=2, tile_yx=(12, 12))
    assert [start[0] for start in cut.starts] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert cut.window_zyx == (1, 12, 12)


@pytest.mark.parametrize(("overlap", "count"), [(0.0, 4), (0.5, 7), (0.75, 13)])
def test_the_overlap_says_how_many_windows_there_are(overlap, count):
    assert len(windows((8, 8, 64), tile_zyx=(8, 8, 16), overlap=overlap).starts) == count


def test_padding_is_split_with_the_odd_voxel_behind():
    cut = windows((5, 9, 16), tile_zyx=(8, 12, 16))
    assert (cut.before_zyx, cut.padded_zyx) == ((1, 1, 0), (8, 12, 16))
    padded = cut.padded(torch.ones(2, 5, 9, 16))
    assert padded.shape == (2, 8, 12, 16)
    assert torch.equal(padded[:, 1:6, 1:10], torch.ones(2, 5, 9, 16))
    assert padded.sum() == 2 * 5 * 9 * 16


def test_without_a_tile_one_window_holds_everything_in_whole_multiples():
    assert windows((5, 9, 16)).window_zyx == (6, 12, 16)
    assert windows((5, 9, 16), dimensions=2).window_zyx == (1, 12, 16)
    assert windows((2, 3, 4)).window_zyx == (2, 4, 8)  # a single deepest pixel would leave nothing to normalise


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("shape", [(9, 21, 30), (3, 5, 7), (8, 12, 16), (1, 40, 4)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_is_cut_comes_back_where_it_was(dimensions, shape, blending):
    tile = {"tile_zyx": (4, 12, 8)} if dimensions == 3 else {"tile_yx": (12, 8)}
    cut = windows(shape, dimensions=dimensions, blending=blending, **tile)
    volume = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    blend, padded = blend_of(cut, 2), cut.padded(volume)
    for starts in cut.in_batches(3):
        for start, window in zip(starts, cut.cut(padded, starts), strict=True):
            blend.add(start, window)
    assert torch.allclose(blend.result(background_logits([2])), volume, atol=1e-6)


def test_constant_blending_is_the_mean_and_gaussian_blending_trusts_the_middle():
    def by_position(window, start):
        return torch.full((1, *window.shape[1:]), float(start[2] > 0))

    places = {"tile_zyx": (8, 8, 16)}
    constant = blended(windows((8, 8, 24), blending="constant", **places), by_position, 1)[0, 4, 4]
    assert torch.equal(constant, torch.tensor([0.0] * 8 + [0.5] * 8 + [1.0] * 8))
    gaussian = blended(windows((8, 8, 24), **places), by_position, 1)[0, 4, 4]
    assert torch.equal(gaussian[:8], torch.zeros(8))
    assert (torch.diff(gaussian[8:16]) > 0).all()
    middle, sigma = np.array([8.0, 16.0]), 16 / 8  # centres of the two windows
    weights = np.exp(-0.5 * ((np.arange(8, 16)[:, None] - middle) / sigma) ** 2)
    assert np.allclose(gaussian[8:16], weights[:, 1] / weights.sum(1), atol=1e-4)
