# SPDX-License-Identifier: Apache-2.0
"""Segmenter: mirrorings and several checkpoints are averaged as one would by hand, and slices encoded once."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_images.voxels import noise

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import BLADDER, DIL, PROSTATE
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((40, 32, 3), (1.0, 1.2, 3.0), (3.0, -4.0, 5.0))
MIRRORINGS = ((), (-1,), (-2,), (-2, -1))


@pytest.fixture(scope="module")
def image():
    return noise(GRID, 4)


@pytest.fixture
def checkpoint(tmp_path, random_state, segmentation_card):
    """Path of a random checkpoint: same encoder unless told otherwise, another head for each seed."""

    def make(seed, *, encoder_seed=0, heads=("gland",), state=None, **card):
        weights = random_state(seed, encoder_seed=encoder_seed, **dict.fromkeys(heads, 2)) if state is None else state
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        return write_checkpoint(path, segmentation_card(*heads, **card), weights)

    return make


@pytest.fixture
def encoded(monkeypatch):
    """How many slices went through an encoder."""
    counts = []
    real = MRDINOv3.encode

    def encode(self, images):
        counts.append(len(images))
        return real(self, images)

    monkeypatch.setattr(MRDINOv3, "encode", encode)
    return counts


def foreground(checkpoints, image, name="Prostate", **options):
    found = Segmenter(checkpoints, device="cpu", skip_outside=False, **options).predict(image)
    return sitk.GetArrayFromImage(found.probabilities[name])


@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_tta_is_the_mean_of_the_logits_of_the_four_mirrored_slices_mirrored_back(checkpoint, image, tile):
    path = checkpoint(0, preprocessing={"tile_yx": tile})
    # 32 rows are one tile and 40 columns 48 with padding: without tiles the whole padded slice is mirrored.
    values = torch.from_numpy(sitk.GetArrayFromImage(image) / np.float32(1000))[:, None]
    found = foreground(path, image, tta=True)
    if tile is not None:
        assert not np.allclose(found, foreground(path, image), atol=1e-3)
        values = values[..., :32]  # the first tile's columns 0 to 7 are in no other tile
    padded = values if tile else torch.nn.functional.pad(values, (4, 4))
    network = load_checkpoint(path).build()
    with torch.inference_mode():
        logits = sum(network(padded.flip(axes))["gland"].flip(axes) for axes in MIRRORINGS) / 4
    expected = torch.softmax(logits, dim=1)[:, 1].numpy()
    if tile is None:
        assert found == pytest.approx(expected[..., 4:44], abs=1e-5)
    else:
        assert found[..., :8] == pytest.approx(expected[..., :8], abs=1e-5)


def test_tta_of_a_mirrored_image_is_the_mirrored_result(checkpoint, image):
    """Mirrored anatomy, not another storage: only an average over all mirrorings is blind to it."""
    path = checkpoint(0)
    mirrored = GRID.image(sitk.GetArrayFromImage(image)[:, :, ::-1])
    assert foreground(path, mirrored, tta=True)[:, :, ::-1] == pytest.approx(
        foreground(path, image, tta=True), abs=1e-5
    )
    assert not np.allclose(foreground(path, mirrored)[:, :, ::-1], foreground(path, image), atol=1e-2)


def test_checkpoints_with_one_encoder_encode_each_slice_once_and_average_their_probabilities(
    checkpoint, image, encoded
):
    paths = [checkpoint(seed) for seed in (1, 2, 3)]
    single = [foreground(path, image) for path in paths]
    assert sum(encoded) == 3 * GRID.size_xyz[2]
    encoded.clear()
    together = foreground(paths, image)
    assert sum(encoded) == GRID.size_xyz[2]
    assert together == pytest.approx(np.mean(single, axis=0), abs=1e-6)
    assert np.std(single, axis=0).max() > 0.05  # they do differ


def test_checkpoints_with_different_encoders_are_averaged_too(checkpoint, image, encoded):
    paths = [checkpoint(1), checkpoint(1, encoder_seed=9)]
    expected = np.mean([foreground(path, image) for path in paths], axis=0)
    encoded.clear()
    assert foreground(paths, image) == pytest.approx(expected, abs=1e-6)
    assert sum(encoded) == 2 * GRID.size_xyz[2]


def test_checkpoints_with_different_preprocessing_are_averaged_on_the_images_grid(checkpoint, image):
    paths = [checkpoint(1), checkpoint(1, preprocessing={"spacing_yx_mm": (1.5, 1.5), "tile_yx": (32, 32)})]
    single = [foreground(path, image) for path in paths]
    assert single[0].shape == single[1].shape == GRID.shape_zyx
    assert foreground(paths, image) == pytest.approx(np.mean(single, axis=0), abs=1e-6)


def test_the_same_checkpoint_twice_changes_nothing(checkpoint, image):
    path = checkpoint(1)
    assert foreground([path, path], image) == pytest.approx(foreground(path, image), abs=1e-7)


def test_one_model_with_two_heads_equals_two_models_with_one_head_each(
    tmp_path, checkpoint, image, random_state, segmentation_card
):
    state = random_state(5, gland=2, dil=2)

    def part(head):
        return {key: value for key, value in state.items() if key.startswith(("dino_", f"up_projection.{head}."))}

    lesion_card = dataclasses.replace(segmentation_card("gland"), structures=(DIL,), heads=(Head("dil", (DIL.value,)),))
    lesion_model = write_checkpoint(tmp_path / "lesion.safetensors", lesion_card, part("dil"))
    found = Segmenter([checkpoint(0, state=part("gland")), lesion_model], device="cpu").predict(image)
    assert found.names == {1: "Prostate", 2: "DIL"}
    whole = checkpoint(0, heads=("gland", "dil"), state=state)
    for name in ("Prostate", "DIL"):
        probability = sitk.GetArrayFromImage(found.probabilities[name])
        assert probability == pytest.approx(foreground(whole, image, name), abs=1e-6)


def model_of(segmentation_card, *structures, head_values=None, **changes):
    values = head_values or tuple(structure.value for structure in structures)
    return dataclasses.replace(
        segmentation_card("gland"), structures=structures, heads=(Head("gland", values),), **changes
    )


def test_two_models_that_use_one_label_for_different_structures_are_refused(tmp_path, random_state, segmentation_card):
    paths = [
        write_checkpoint(tmp_path / f"{structure.name}.safetensors", card, random_state())
        for structure in (PROSTATE, BLADDER.with_value(1))
        for card in [model_of(segmentation_card, structure)]
    ]
    with pytest.raises(ProstateXferError, match="use label 1 for different structures"):
        Segmenter(paths, device="cpu")


def test_the_first_models_label_values_count_where_models_number_structures_differently(
    tmp_path, image, random_state, segmentation_card
):
    paths = [
        write_checkpoint(
            tmp_path / f"{value}.safetensors", model_of(segmentation_card, PROSTATE.with_value(value)), random_state()
        )
        for value in (4, 1)
    ]
    found = Segmenter(paths, device="cpu").predict(image)
    assert found.names == {4: "Prostate"}
    assert set(np.unique(sitk.GetArrayFromImage(found.labels))) == {0, 4}


def test_models_of_different_sequences_are_refused(tmp_path, random_state, segmentation_card):
    paths = [
        write_checkpoint(
            tmp_path / f"{name}.safetensors", model_of(segmentation_card, PROSTATE, inputs=(name,)), random_state()
        )
        for name in ("T2w", "ADC")
    ]
    with pytest.raises(
        ProstateXferError, match="takes T2w and 'tiny' takes ADC: only models with the same first sequence"
    ):
        Segmenter(paths, device="cpu")


def test_models_that_share_some_of_a_heads_structures_are_refused(tmp_path, random_state, segmentation_card):
    """A softmax over gland and bladder is no probability of the gland alone: their mean would mean nothing."""
    narrow = write_checkpoint(tmp_path / "a.safetensors", model_of(segmentation_card, PROSTATE), random_state())
    card = model_of(segmentation_card, PROSTATE, BLADDER)
    wide = write_checkpoint(tmp_path / "b.safetensors", card, random_state(gland=3))
    with pytest.raises(ProstateXferError, match="both find Prostate, but among different structures"):
        Segmenter([narrow, wide], device="cpu")


def test_no_checkpoint_at_all_is_refused():
    with pytest.raises(ProstateXferError, match="at least one checkpoint"):
        Segmenter([], device="cpu")
