# SPDX-License-Identifier: Apache-2.0
"""Dense models of several sequences: their order, grids, intensity rules, and the bias field."""

import dataclasses

import numpy as np
import pytest
from dense_models.models import GRID, WINDOW, ZSCORE, made
from made_images.grids import voxel_centres_lps
from made_images.voxels import array_of, noise

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import PROSTATE
from ProstateXferLib.pipelines.provenance import image_sha256


def two_sequences(function=lambda a, b: (0 * a, 40 * (a + b - 0.5)), **changes):
    heads = (Head("gland", (PROSTATE.value,)),)
    return made(function, classes=2, channels=2, heads=heads, **{"inputs": ("T1w", "DWI"), **changes})


def test_both_sequences_reach_the_network_in_the_cards_order():
    first, second = noise(GRID, 0), noise(GRID, 1)
    segmenter = two_sequences(lambda a, b: (0 * a, 40 * (a - 2 * b - 0.0003)))
    for given in ({"T1w": first, "DWI": second}, {"DWI": second, "T1w": first, "ADC": noise(GRID, 2)}):
        found = segmenter.predict(given)
        expected = array_of(first).astype(int) - 2 * array_of(second) >= 1
        assert np.array_equal(array_of(found.labels) == 1, expected)
        assert found.provenance.input_sha256 == {"T1w": image_sha256(first), "DWI": image_sha256(second)}


def test_the_second_sequence_is_brought_through_space_onto_the_firsts_grid(oblique_direction):
    """Both are linear in patient coordinates, which linear interpolation reproduces; outside the second one is 0."""
    size, middle_lps = np.array((20, 16, 12)), GRID.index_to_lps(np.array([20.0, 14.0, 4.0]))
    turned = Grid(tuple(size), (1.1, 1.3, 1.2), (0.0, 0.0, 0.0), oblique_direction)
    other = dataclasses.replace(turned, origin_lps=tuple(middle_lps - turned.index_to_lps((size - 1) / 2)))
    slope_lps = np.array([11.0, -7.0, 5.0])

    def linear(grid):
        return voxel_centres_lps(grid) @ slope_lps

    seen = []
    segmenter = two_sequences(lambda a, b: (seen.append(b[0]) or 0 * a, a))
    segmenter.predict({"T1w": noise(GRID), "DWI": other.image(linear(other).astype(np.float32))})
    position = other.lps_to_index(voxel_centres_lps(GRID))
    inside = ((position > 0) & (position < np.array(other.size_xyz) - 1)).all(-1)
    outside = ((position < -0.5) | (position > np.array(other.size_xyz) - 0.5)).any(-1)
    second = seen[-1].numpy()
    assert inside.sum() > 500
    assert np.allclose(second[inside], linear(GRID)[inside] / 1000, atol=1e-4)
    assert outside.sum() > 500
    assert not second[outside].any()


def test_every_sequence_has_its_own_intensity_rule():
    """The first is standardised with the training set's numbers, the second goes from 0 to 1 between percentiles."""
    rules = {
        "intensity": IntensityRule("standardise", mean=100.0, deviation=50.0),
        "further_intensities": (IntensityRule("percentile01", lower_percentile=0, upper_percentile=100),),
    }
    seen = []
    segmenter = two_sequences(lambda a, b: (seen.append((a[0], b[0])) or 0 * a, a), preprocessing=rules)
    first, second = noise(GRID, 0), noise(GRID, 1)
    segmenter.predict({"T1w": first, "DWI": second})
    a, b = (tensor.numpy() for tensor in seen[-1])
    assert np.allclose(a, (array_of(first) - 100.0) / 50.0, atol=1e-5)
    values = array_of(second).astype(float)
    assert np.allclose(b, (values - values.min()) / (values.max() - values.min()), atol=1e-6)


def test_a_missing_sequence_and_one_that_lies_elsewhere_are_refused():
    with pytest.raises(ProstateXferError, match="DWI is missing"):
        two_sequences().predict(noise(GRID))
    away = noise(dataclasses.replace(GRID, origin_lps=(500.0, 0.0, 0.0)))
    with pytest.raises(ProstateXferError, match="Sequence 2 lies elsewhere than the first one"):
        two_sequences().predict({"T1w": noise(GRID), "DWI": away})


def test_one_rule_counts_for_all_sequences_where_no_others_are_given():
    seen = []
    segmenter = two_sequences(lambda a, b: (seen.append(b[0]) or 0 * a, a), preprocessing={"intensity": ZSCORE})
    segmenter.predict({"T1w": noise(GRID, 0), "DWI": noise(GRID, 1)})
    assert float(seen[-1].mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen[-1].std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_the_bias_field_is_gone_before_the_network_sees_the_image():
    grid = dataclasses.replace(GRID, size_xyz=(64, 64, 8))
    shape = grid.shape_zyx
    tissue = np.zeros(shape)
    tissue[:, 8:-8, 8:-8] = 300.0
    tissue[2:6, 20:44, 20:44] = 400.0
    shaded = tissue * np.linspace(0.7, 1.3, shape[2])
    seen = {}
    for n4 in (False, True):
        kept = []
        segmenter = made(
            lambda v, kept=kept: (kept.append(v[0]) or 0 * v, v),
            classes=2,
            heads=(Head("gland", (1,)),),
            preprocessing={"intensity": WINDOW, "n4": n4},
        )
        segmenter.predict(grid.image(shaded.astype(np.float32)))
        seen[n4] = kept[-1].numpy() * 1000
    spread = {n4: values[tissue == 300].std() / values[tissue == 300].mean() for n4, values in seen.items()}
    assert spread[True] < 0.4 * spread[False]
