# SPDX-License-Identifier: Apache-2.0
"""Several heads for one structure: the first is decoded whole, the others where the piece that is kept can be.

Grey values are thousands: a head of threshold 0.3 marks what is brighter than 300. Patches are 16 x 16 pixels.
"""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.networks.patch_decode import PatchDecode
from ProstateXferLib.pipelines.encoder_group import one_piece_levels
from ProstateXferLib.pipelines.growing import SHOWS, grow, shows
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((160, 160, 3), (1.0, 1.0, 3.0))
GLAND, PALE = 600, 350
ROWS_COLUMNS = (6, 6)


def masked_decoder(found_by_head, decoded):
    """Heads that are sure of what they find (heads, h, w) and say background in tokens they are not asked for."""

    def decode(chosen):
        decoded.append(int(chosen.sum()))
        pixels = chosen.view(1, 1, *ROWS_COLUMNS).repeat_interleave(16, 2).repeat_interleave(16, 3)
        found = torch.as_tensor(found_by_head)[:, None, None].float() * 20 - 10
        logits = torch.cat([torch.zeros_like(found), found], dim=2)
        return torch.where(pixels, logits, torch.tensor([0.0, -20.0]).view(2, 1, 1))

    return decode


def tokens(*rows_columns):
    chosen = torch.zeros(1, *ROWS_COLUMNS, dtype=torch.bool)
    for row, column in rows_columns:
        chosen[0, row, column] = True
    return chosen.flatten(1)


EVERYWHERE = torch.ones(1, 36, dtype=torch.bool)


def test_a_piece_is_decoded_to_its_end_and_one_token_beyond():
    found = np.zeros((1, 96, 96), bool)
    found[0, 4:12, 4:70] = True  # tokens (0, 0) to (0, 4)
    decoded = []
    logits = grow(masked_decoder(found, decoded), tokens((0, 0)), EVERYWHERE, ROWS_COLUMNS)
    assert np.array_equal(shows(logits[0])[0].numpy(), found[0])
    assert decoded == [4, 2, 2, 2, 2]  # two rows of tokens, a column more each time, (0, 5) and (1, 5) beyond the end


def test_what_does_not_hang_together_with_the_start_is_background():
    found = np.zeros((1, 96, 96), bool)
    found[0, 4:12, 4:12] = found[0, 80:90, 80:90] = True
    logits = grow(masked_decoder(found, []), tokens((0, 0)), EVERYWHERE, ROWS_COLUMNS)[0]
    assert int(shows(logits).sum()) == 8 * 8


def test_heads_grow_together_so_that_all_are_decoded_where_one_shows_something():
    found = np.zeros((2, 96, 96), bool)
    found[0, 4:12, 4:90] = True
    found[1, 4:12, 76:90] = True  # by itself out of reach of the start
    logits = grow(masked_decoder(found, []), tokens((0, 0)), EVERYWHERE, ROWS_COLUMNS)
    assert np.array_equal(shows(logits.flatten(0, 1)).numpy(), found)


def test_nothing_outside_the_allowed_tokens_is_decoded():
    found, decoded = np.ones((1, 96, 96), bool), []
    logits = grow(masked_decoder(found, decoded), tokens((2, 2)), tokens((2, 2), (2, 3), (5, 5)), ROWS_COLUMNS)
    assert int(shows(logits[0]).sum()) == 2 * 16 * 16
    assert sum(decoded) == 2


def test_the_level_is_the_probability_of_all_classes_but_the_background():
    logits = torch.log(torch.tensor([[0.92, 0.04, 0.04], [0.88, 0.06, 0.06]]))[..., None]
    assert shows(logits)[:, 0].tolist() == [False, True]
    assert shows(logits, 0.05)[:, 0].tolist() == [True, True]


def test_the_middle_of_a_patch_is_what_the_whole_decode_says_there():
    head, generator = PatchDecode(64, 3), torch.Generator().manual_seed(0)
    values = torch.randn(50, 64, generator=generator)
    with torch.inference_mode():
        whole, middle = head.decode_tokens(values), head.decode_centres(values)
    assert torch.allclose(middle, whole[:, :, 8, 8], atol=1e-6)
    assert not torch.allclose(middle, whole[:, :, 8, 7], atol=1e-3)


@pytest.fixture
def ensemble(tmp_path, threshold_state, segmentation_card):
    """Labels that three models of one encoder and of different thresholds find, and how many tokens were decoded."""

    def run(array, *, thresholds=(0.5, 0.3, 0.3), largest_only=(True, True, True), monkeypatch, **options):
        card = segmentation_card("gland")
        paths = []
        for number, (threshold, one) in enumerate(zip(thresholds, largest_only, strict=True)):
            head = dataclasses.replace(card.heads[0], largest_only=one)
            own = dataclasses.replace(card, name=f"m{number}", heads=(head,))
            paths.append(write_checkpoint(tmp_path / f"{number}.safetensors", own, threshold_state(gland=(threshold,))))
        decoded, real = [], PatchDecode.decode_tokens
        with monkeypatch.context() as patched:
            patched.setattr(PatchDecode, "decode_tokens", lambda self, x: decoded.append(len(x)) or real(self, x))
            found = Segmenter(paths, device="cpu", **options).predict(GRID.image(array.astype(np.int16)))
        return sitk.GetArrayFromImage(found.labels), sum(decoded)

    return run


def gland_with_a_pale_tail():
    """The first model, of threshold 0.5, sees the gland alone; the others its pale tail, too, four tokens long."""
    array = np.zeros(GRID.shape_zyx)
    array[:, :4] = -900  # air, so that the rest is a body
    array[:, 32:64, 32:64] = GLAND
    array[:, 44:50, 64:130] = PALE
    return array


@pytest.mark.parametrize("tta", [False, True])
def test_the_labels_of_an_ensemble_are_those_of_the_full_decode(ensemble, monkeypatch, tta):
    array = gland_with_a_pale_tail()
    full, all_tokens = ensemble(array, skip_outside=False, tta=tta, monkeypatch=monkeypatch)
    fast, tokens_decoded = ensemble(array, tta=tta, monkeypatch=monkeypatch)
    assert np.array_equal(full > 0, array > 0)
    assert np.array_equal(fast, full)
    assert all_tokens == 3 * 3 * 100 * (4 if tta else 1)
    assert tokens_decoded < 0.65 * all_tokens  # a third is the first model's, whole


def test_a_gland_that_the_first_model_misses_is_found_by_the_others(ensemble, monkeypatch):
    array = np.minimum(gland_with_a_pale_tail(), PALE)
    labels, _ = ensemble(array, monkeypatch=monkeypatch)
    assert np.array_equal(labels > 0, array > 0)


def gland_and_a_spot():
    array = gland_with_a_pale_tail()
    array[1, 97:103, 97:103] = PALE  # within a patch, and not in its middle: as small as a lesion
    return array


def test_structures_of_several_pieces_are_decoded_whole_by_every_model(ensemble, monkeypatch):
    array = gland_and_a_spot()
    labels, decoded = ensemble(array, largest_only=(False,) * 3, monkeypatch=monkeypatch)
    assert np.array_equal(labels > 0, array > 0)
    assert decoded == 3 * 3 * 100


def test_the_rules_that_compose_the_labels_say_whether_one_piece_is_kept(ensemble, monkeypatch):
    array = gland_and_a_spot()  # the first model's rules count
    labels, _ = ensemble(array, largest_only=(False, True, True), monkeypatch=monkeypatch)
    assert np.array_equal(labels > 0, array > 0)


def test_a_model_that_keeps_several_pieces_by_its_own_rules_is_decoded_whole(ensemble, monkeypatch):
    all_but_one = ensemble(gland_and_a_spot(), largest_only=(True, False, True), monkeypatch=monkeypatch)[1]
    assert 2 * 300 < all_but_one < 3 * 300


def test_a_structure_shows_below_the_threshold_that_decides(segmentation_card):
    card = segmentation_card("gland")

    def levels(**rules):
        return one_piece_levels([dataclasses.replace(card, heads=(dataclasses.replace(card.heads[0], **rules),))])

    assert levels(largest_only=True) == {frozenset({"Prostate"}): SHOWS}
    assert levels(largest_only=True, threshold=0.04) == {frozenset({"Prostate"}): 0.04}
    assert levels(largest_only=False) == {}
