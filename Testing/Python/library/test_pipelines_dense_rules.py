# SPDX-License-Identifier: Apache-2.0
"""The rules of a dense model's card: thresholds, heads, what works within what."""

import dataclasses

import numpy as np
import pytest
import torch
from dense_models.models import GRID, made
from made_images.voxels import array_of, noise

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.pipelines.segmenter import Segmenter

ALL = (PROSTATE, DIL, PERIPHERAL_ZONE, TRANSITION_ZONE)


@pytest.mark.parametrize(("threshold", "limit"), [(None, 0.5), (0.2, 0.2), (0.9, 0.9)])
def test_a_structure_is_there_from_its_threshold_on(threshold, limit):
    heads = (Head("gland", (PROSTATE.value,), threshold=threshold),)
    segmenter = made(lambda v: (torch.zeros_like(v), 4 * v), classes=2, heads=heads)
    image = noise(GRID)
    found = segmenter.predict(image)
    expected = 1 / (1 + np.exp(-4 * array_of(image) / 1000))
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)
    probability_map = array_of(found.probabilities["Prostate"])
    decided = probability_map > limit if threshold is None else probability_map >= np.float32(limit)
    assert np.array_equal(array_of(found.labels) == 1, decided)
    assert (array_of(found.labels) == 1).mean() == pytest.approx((expected >= limit).mean(), abs=1e-3)


def test_of_several_structures_over_the_threshold_the_most_probable_one_is_there():
    values = (PERIPHERAL_ZONE.value, TRANSITION_ZONE.value)
    image, scores = noise(GRID), lambda v: (torch.full_like(v, 0.5), v, -v)
    whole = {}
    for threshold in (None, 0.3):
        heads = (Head("zones", values, threshold=threshold),)
        segmenter = made(scores, classes=3, structures=ALL, heads=heads)
        found = segmenter.predict(image)
        whole[threshold] = array_of(found.labels)
        maps = np.stack([array_of(found.probabilities[s.name]) for s in (PERIPHERAL_ZONE, TRANSITION_ZONE)])
        background = 1 - maps.sum(0)
        wins = maps.max(0) > background if threshold is None else maps.max(0) >= threshold
        assert np.array_equal(whole[threshold], np.where(wins, np.array(values)[maps.argmax(0)], 0))
    assert set(np.unique(whole[None])) == {0, *values}
    assert (whole[0.3] > 0).sum() > (whole[None] > 0).sum()


def test_heads_take_their_channels_in_order_and_one_may_work_within_another():
    """Channels: background, prostate; background, DIL. The DIL is dark and only counts in the bright gland's reach."""
    heads = (Head("gland", (1,)), Head("dil", (DIL.value,), within="Prostate", margin_mm=1.5))

    def scores(v):
        return (torch.zeros_like(v), 40 * (v - 0.3), torch.zeros_like(v), 40 * (-0.3 - v))

    array = np.zeros(GRID.shape_zyx, np.int16)
    array[2:6, 8:20, 8:20] = 600
    array[3:5, 12:14, 12:14] = -500  # a hole of four voxels across: each touches the gland
    array[:, 28:, 28:] = -500  # far away
    found = made(scores, classes=4, structures=(PROSTATE, DIL), heads=heads).predict(GRID.image(array))
    expected = np.where(array == 600, 1, 0)
    expected[3:5, 12:14, 12:14] = DIL.value
    assert np.array_equal(array_of(found.labels), expected)
    assert array_of(found.probabilities["DIL"])[0, 30, 30] > 0.99  # found by the network, left out by the rule


def test_a_gland_below_one_half_still_has_its_lesions_decoded(tmp_path, threshold_state, segmentation_card):
    """MR-DINOv3 skips lesion tokens away from the gland: away from the gland that its threshold finds."""
    grid = Grid((96, 32, 4), (1.0, 1.0, 3.0))
    array = np.zeros(grid.shape_zyx, np.int16)
    array[:, :, 60:90] = 290  # a faint gland: below the head's 300, its probability a little under one half
    array[1:3, 10:14, 70:74] = -500
    card = segmentation_card("gland", "dil")
    heads = (dataclasses.replace(card.heads[0], threshold=0.3), card.heads[1])
    state = threshold_state(gland=(0.3,), dil=(0.3,), inverted=("dil",))
    path = write_checkpoint(tmp_path / "m.safetensors", dataclasses.replace(card, heads=heads), state)
    labels = [
        array_of(Segmenter(path, device="cpu", skip_outside=skip).predict(grid.image(array)).labels)
        for skip in (True, False)
    ]
    assert np.array_equal(*labels)
    assert (labels[0][1:3, 10:14, 70:74] == DIL.value).all()
