# SPDX-License-Identifier: Apache-2.0
"""Segmenter: lesions lie in or near the gland, one gland, no specks; and what is skipped would have changed nothing.

Grey values say what a voxel is: air -900, tissue 0, gland 600, lesion -500. The gland head marks what is brighter than
300, the lesion head what is darker than -300: all of the air, if it were not for the rules.
"""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.grids import voxel_centres_lps

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import BLADDER, PROSTATE
from ProstateXferLib.networks.patch_decode import PatchDecode
from ProstateXferLib.pipelines.segmenter import Segmenter

AIR, TISSUE, GLAND_VALUE, LESION_VALUE = -900, 0, 600, -500
GRID = Grid((96, 96, 6), (1.0, 1.0, 3.0))


@pytest.fixture(scope="module")
def grey_state(threshold_state):
    return threshold_state(gland=(0.3,), dil=(0.3,), inverted=("dil",))


@pytest.fixture
def segment(tmp_path, grey_state, segmentation_card):
    """Labels (z, y, x) of an array; changes to the heads' rules by name: gland={...}, dil={...}."""

    def run(array_zyx, *, tile=None, spacing=None, gland=None, dil=None, **options):
        card = segmentation_card("gland", "dil", preprocessing={"tile_yx": tile, "spacing_yx_mm": spacing})
        rules = {"gland": gland or {}, "dil": dil or {}}
        heads = tuple(dataclasses.replace(head, **rules[head.name]) for head in card.heads)
        path = write_checkpoint(tmp_path / "m.safetensors", dataclasses.replace(card, heads=heads), grey_state)
        found = Segmenter(path, device="cpu", **options).predict(GRID.image(array_zyx.astype(np.int16)))
        return sitk.GetArrayFromImage(found.labels)

    return run


def pelvis():
    """Tissue in the middle, air around it, a gland of 32 x 32 x 4 voxels."""
    array = np.full(GRID.shape_zyx, AIR)
    array[:, 8:88, 8:88] = TISSUE
    array[1:5, 32:64, 32:64] = GLAND_VALUE
    return array


def test_a_lesion_in_the_gland_is_found_and_air_outside_is_none(segment):
    array = pelvis()
    array[2:4, 40:50, 40:48] = LESION_VALUE
    labels = segment(array, dil={"margin_mm": 8.0})
    expected = np.where(array == GLAND_VALUE, 1, 0)
    expected[2:4, 40:50, 40:48] = 2
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("margin_mm", [0.0, 1.0, 3.0, 4.5, 7.0])
@pytest.mark.parametrize("skip_outside", [True, False])
def test_a_lesion_reaches_as_far_out_of_the_gland_as_the_margin_says(segment, margin_mm, skip_outside):
    """A dark bar that starts at the gland's right face and runs outwards, in-plane and through slices."""
    array = pelvis()
    array[:, 44:52, 64:84] = LESION_VALUE  # the gland's last column is 63, its slices are 1 to 4
    labels = segment(array, dil={"margin_mm": margin_mm}, skip_outside=skip_outside)
    z, _, x = np.ogrid[:6, :96, :96]
    out_mm = np.hypot(np.maximum(x - 63, 0) * 1.0, 3.0 * (np.maximum(1 - z, 0) + np.maximum(z - 4, 0)))
    assert np.array_equal(labels == 2, (array == LESION_VALUE) & (out_mm <= margin_mm))
    assert np.array_equal(labels == 1, array == GLAND_VALUE)


def test_without_a_gland_there_is_no_lesion(segment):
    array = np.where(pelvis() == GLAND_VALUE, LESION_VALUE, pelvis())
    assert not segment(array).any()


def test_a_lesion_head_without_a_structure_around_it_marks_the_whole_image(segment):
    array = pelvis()
    labels = segment(array, dil={"within": None, "margin_mm": 0.0}, skip_outside=False)
    assert np.array_equal(labels == 2, array == AIR)


def test_only_the_largest_gland_is_kept_where_the_card_says_so(segment):
    array = pelvis()
    array[1:3, 12:22, 70:80] = GLAND_VALUE
    both = segment(array, gland={"largest_only": False})
    one = segment(array, gland={"largest_only": True})
    assert np.array_equal(both == 1, array == GLAND_VALUE)
    assert np.array_equal(one == 1, pelvis() == GLAND_VALUE)


def test_a_lesion_near_a_gland_that_was_dropped_is_dropped_with_it(segment):
    array = pelvis()
    array[1:3, 12:22, 70:80] = GLAND_VALUE
    array[1:3, 15:18, 73:76] = LESION_VALUE
    assert (segment(array, gland={"largest_only": False}) == 2).sum() == 18
    assert not (segment(array, gland={"largest_only": True}) == 2).any()


def test_parts_that_touch_at_a_corner_are_one_component(segment):
    array = np.where(pelvis() == GLAND_VALUE, TISSUE, pelvis())
    array[1, 20:30, 20:30] = GLAND_VALUE
    array[2, 30:40, 30:40] = GLAND_VALUE
    assert (segment(array, gland={"largest_only": True}) == 1).sum() == 200


def test_smoothing_bridges_a_gap_between_slices_and_drops_what_only_one_slice_shows(segment):
    array = pelvis()
    array[2, 40:56, 40:56] = TISSUE  # a hole that the slices above and below do not have
    array[3, 12:14, 12:14] = GLAND_VALUE  # a speck
    rough, smooth = segment(array) == 1, segment(array, gland={"smoothing_mm": 3.0}) == 1
    assert not rough[2, 47:49, 47:49].any()
    assert rough[3, 12:14, 12:14].all()
    assert smooth[2, 42:54, 42:54].mean() > 0.5
    assert not smooth[:, 8:20, 8:20].any()


def test_smoothing_is_a_gaussian_in_millimetres_over_the_probabilities(
    tmp_path, grey_state, segmentation_card, oblique_direction
):
    card = segmentation_card("gland", "dil")
    heads = (dataclasses.replace(card.heads[0], smoothing_mm=3.0), card.heads[1])
    path = write_checkpoint(tmp_path / "m.safetensors", dataclasses.replace(card, heads=heads), grey_state)
    array = np.full((30, 40, 36), TISSUE, np.int16)
    array[15, 20, 18] = GLAND_VALUE  # one voxel: its smoothed probability is the Gaussian itself
    grid = Grid((36, 40, 30), (1.0, 1.5, 2.0), (5.0, 6.0, 7.0), oblique_direction)
    found = Segmenter(path, device="cpu", skip_outside=False).predict(grid.image(array))
    probability = sitk.GetArrayFromImage(found.probabilities["Prostate"]).astype(float)
    probability -= probability[0, 0, 0]
    distance = np.linalg.norm(voxel_centres_lps(grid) - grid.index_to_lps([18, 20, 15]), axis=-1)
    expected = np.exp(-0.5 * (distance / 3.0) ** 2)
    near = distance < 7
    assert probability[near] / probability[15, 20, 18] == pytest.approx(expected[near], abs=0.02)


@pytest.mark.parametrize(("voxels", "kept"), [(16, False), (17, True)])
def test_a_lesion_smaller_than_the_minimum_volume_is_removed(segment, voxels, kept):
    array = pelvis()
    array[2, 48, 36 : 36 + voxels] = LESION_VALUE  # 3 mm3 each
    found = segment(array, dil={"min_volume_cm3": 0.05, "margin_mm": 5.0}) == 2
    assert np.array_equal(found, (array == LESION_VALUE) & kept)


def test_three_classes_of_one_head_are_told_apart_by_argmax(tmp_path, threshold_state, segmentation_card):
    card = dataclasses.replace(
        segmentation_card("gland"), structures=(PROSTATE, BLADDER), heads=(Head("gland", (5, 1)),)
    )  # class 1 is the bladder, class 2 the prostate
    path = write_checkpoint(tmp_path / "m.safetensors", card, threshold_state(gland=(0.2005, 0.6005)))
    array = np.random.default_rng(0).integers(-900, 900, (3, 20, 40)).astype(np.int16)
    found = Segmenter(path, device="cpu").predict(Grid((40, 20, 3), (1.0, 1.0, 3.0)).image(array))
    expected = np.select([array > 600.5, array > 200.5], [1, 5], 0)
    assert np.array_equal(sitk.GetArrayFromImage(found.labels), expected)
    assert found.names == {1: "Prostate", 5: "Bladder"}


@pytest.mark.parametrize(
    ("tile", "spacing_mm", "tta", "smoothing_mm"),
    [
        (None, None, False, 0.0),
        (None, None, True, 0.0),
        ((32, 32), None, False, 0.0),
        ((32, 32), None, True, 2.0),
        (None, 1.7, False, 0.0),
        (None, 1.7, False, 3.0),
    ],
)
def test_skipping_what_lies_outside_leaves_the_labels_as_they_are(segment, tile, spacing_mm, tta, smoothing_mm):
    rng = np.random.default_rng(3)
    array = pelvis()
    for z, y, x in rng.integers((0, 10, 10), (6, 82, 82), (60, 3)):
        array[z, y : y + 4, x : x + 4] = LESION_VALUE
    rules = {"gland": {"largest_only": True, "smoothing_mm": smoothing_mm}, "dil": {"margin_mm": 4.0}}
    rules |= {"tile": tile, "tta": tta}
    rules["spacing"] = None if spacing_mm is None else (spacing_mm, spacing_mm)
    full = segment(array, skip_outside=False, **rules)
    assert (full == 2).sum() > 50
    assert np.array_equal(segment(array, skip_outside=True, **rules), full)


@pytest.fixture
def random_segmenter(tmp_path, random_state, segmentation_card):
    """A network whose logits depend on everything around, in tiles that overlap at odd places."""
    card = segmentation_card("gland", "dil", preprocessing={"tile_yx": (48, 48)})
    path = write_checkpoint(tmp_path / "random.safetensors", card, random_state(2, gland=2, dil=2))
    return lambda **options: Segmenter(load_checkpoint(path), device="cpu", **options)


def probabilities(segmenter, image):
    found = segmenter.predict(image)
    return {name: sitk.GetArrayFromImage(volume) for name, volume in found.probabilities.items()}


@pytest.mark.parametrize("tta", [False, True])
def test_probabilities_in_the_body_and_near_the_gland_are_those_of_the_full_decode(random_segmenter, tta):
    grid = Grid((85, 110, 4), (1.0, 1.0, 3.0))
    array = np.full(grid.shape_zyx, AIR)
    array[:, 20:90, 15:70] = np.random.default_rng(1).integers(-300, 900, (4, 70, 55))
    image = grid.image(array.astype(np.int16))
    full = probabilities(random_segmenter(skip_outside=False, tta=tta), image)
    fast = probabilities(random_segmenter(skip_outside=True, tta=tta), image)
    body = array > AIR
    assert fast["Prostate"][body] == pytest.approx(full["Prostate"][body], abs=1e-6)
    # The margin is 3 mm: a square of 7 x 7 pixels around what the gland head found.
    near = np.zeros(array.shape, bool)
    gland = np.pad(fast["Prostate"] > 0.5, ((0, 0), (3, 3), (3, 3)))
    for dy, dx in np.ndindex(7, 7):
        near |= gland[:, dy : dy + 110, dx : dx + 85]
    assert 0.005 < near.mean() < 0.95
    assert fast["DIL"][near] == pytest.approx(full["DIL"][near], abs=1e-6)
    assert fast["DIL"].max() <= full["DIL"].max() + 1e-6


def test_air_and_what_is_far_from_the_gland_is_not_decoded(segment, monkeypatch):
    decoded = []
    real = PatchDecode.decode_tokens

    def count(self, tokens):
        decoded.append(len(tokens))
        return real(self, tokens)

    monkeypatch.setattr(PatchDecode, "decode_tokens", count)
    array = np.full(GRID.shape_zyx, AIR)
    array[:, 32:64, 32:64] = TISSUE  # 2 x 2 of 6 x 6 tokens, with their neighbours 4 x 4
    array[2, 37:43, 37:43] = GLAND_VALUE  # within one token, even with 3 mm and two pixels around it
    segment(array)
    assert sum(decoded) == 6 * 16 + 3  # the lesion head decodes it in this slice and the two 3 mm away
    decoded.clear()
    segment(array, skip_outside=False)
    assert sum(decoded) == 6 * 36 * 2
