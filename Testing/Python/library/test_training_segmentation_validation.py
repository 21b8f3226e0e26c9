# SPDX-License-Identifier: Apache-2.0
"""What a stage is selected by is the Dice that a user would get, of cases and of slices."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from watchers.stops_after import StopsAfter

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import build_network
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.cache.prepared import prepared_cases
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.tasks.segmentation_inference import logits_function
from ProstateXferLib.training.tasks.segmentation_validation import composed_labels, validation_values

GRID = Grid((48, 40, 6), (1.0, 1.0, 3.0), (-20.0, -30.0, 5.0))
CARD = ModelCard(
    name="tiny",
    task="segmentation",
    architecture="mr_dinov3",
    preprocessing=Preprocessing(IntensityRule("window", -1.0, 1.0)),
    structures=(PROSTATE, DIL),
    heads=(Head("gland", (PROSTATE.value,)), Head("dil", (DIL.value,), within="Prostate", margin_mm=2.0)),
)


def drawn():
    """A gland of 16 x 12 pixels on slices 1 to 4, with a lesion of 4 x 4 on slices 2 and 3."""
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[1:5, 10:26, 12:24] = 1
    labels[2:4, 12:16, 14:18] = 2
    return labels


@pytest.fixture
def prepare(tmp_path):
    """prepare(labels, ...) -> prepared cases whose image is random; a label map without 2 has no lesion label."""

    def case(index, labels):
        folder = tmp_path / f"case{index}"
        folder.mkdir()
        image = np.random.default_rng(index).normal(0, 0.5, GRID.shape_zyx).astype(np.float32)
        write_image(GRID.image(image), folder / "t2w.nii.gz")
        write_image(GRID.image(labels), folder / "labels.nii.gz")
        masks = {"Prostate": (Mask(folder / "labels.nii.gz", (1, 2)),)}
        if (labels == 2).any():
            masks["DIL"] = (Mask(folder / "labels.nii.gz", (2,)),)
        return Case(folder.name, folder.name, {"T2w": folder / "t2w.nii.gz"}, masks)

    def prepared(*labels, card=CARD):
        cases = [case(index, one) for index, one in enumerate(labels)]
        rules = {"sequences": ["T2w"], "folder": tmp_path / "cache", "progress": SilentProgress()}
        return cases, prepared_cases(cases, card.preprocessing, card.structures, **rules)

    return prepared


def logits_of(labels):
    """A network's output that says exactly these labels."""
    gland = torch.from_numpy((labels > 0).astype(np.float32))
    lesion = torch.from_numpy((labels == 2).astype(np.float32))
    return {name: 20 * torch.stack([1 - mask, mask], 1) for name, mask in (("gland", gland), ("dil", lesion))}


def values_of(cases, found, **options):
    found = iter(found)
    options = {"slices_above_pixels": None, "progress": SilentProgress()} | options
    return validation_values(cases, lambda case: logits_of(next(found)), CARD, **options)


def test_right_labels_have_a_dice_of_one(prepare):
    _, cases = prepare(drawn())
    assert values_of(cases, [drawn()]) == {"dice": 1.0, "dice_prostate": 1.0, "dice_dil": 1.0}


def test_the_dice_of_each_structure_is_that_of_whole_cases_and_their_mean_selects(prepare):
    _, cases = prepare(drawn(), drawn())
    moved = np.roll(drawn(), 4, axis=2)
    values = values_of(cases, [drawn(), moved])
    assert values["dice_prostate"] == pytest.approx((1 + 2 / 3) / 2)  # 12 columns, 8 of them shared
    assert values["dice_dil"] == pytest.approx((1 + 0) / 2)  # 4 columns, none shared
    assert values["dice"] == pytest.approx((values["dice_prostate"] + values["dice_dil"]) / 2)


def test_a_case_without_a_structure_says_nothing_about_it(prepare):
    gland_only = np.minimum(drawn(), 1)
    _, cases = prepare(drawn(), gland_only)
    values = values_of(cases, [drawn(), drawn()])  # a lesion is found where nobody looked for one
    assert values["dice_dil"] == 1.0


def test_cases_that_show_nothing_are_refused(prepare):
    _, cases = prepare(np.zeros_like(drawn()))
    with pytest.raises(ProstateXferError, match="None of the 1 validation cases shows Prostate or DIL"):
        values_of(cases, [drawn()])


def test_slices_count_one_by_one_when_they_show_enough(prepare):
    _, cases = prepare(drawn())
    found = drawn()
    found[1] = 0
    found[2:4, 10:18] = 0  # the upper half, with the lesion
    values = values_of(cases, [found], slices_above_pixels=0)
    assert values["slice_dice_prostate"] == pytest.approx((0 + 2 / 3 + 2 / 3 + 1) / 4)
    assert values["slice_iou_prostate"] == pytest.approx((0 + 0.5 + 0.5 + 1) / 4)
    assert values["slice_dice_dil"] == 0
    assert values["slice_dice"] == pytest.approx(values["slice_dice_prostate"] / 2)
    large = values_of(cases, [found], slices_above_pixels=16)  # the lesion has 16 pixels on a slice, the gland 192
    assert large["slice_dice"] == large["slice_dice_prostate"]
    assert "slice_dice_dil" not in large
    assert "slice_dice" not in values_of(cases, [found], slices_above_pixels=None)


def test_a_validation_can_be_cancelled(prepare):
    _, cases = prepare(drawn())
    with pytest.raises(CancelledError):
        values_of(cases, [drawn()], progress=StopsAfter(0))


def same_labels_as_the_segmenter(tmp_path, card, network, case, prepared):
    found = composed_labels(
        prepared, logits_function(network, card, device=torch.device("cpu"), progress=SilentProgress())(prepared), card
    )
    path = write_checkpoint(tmp_path / "model.safetensors", card, network.state_dict())
    labels = Segmenter(path, device="cpu").predict(sitk.ReadImage(str(case.images["T2w"]))).labels
    labels = sitk.GetArrayFromImage(labels)
    assert 0 < (labels > 0).mean() < 1  # there is something to be compared
    return np.array_equal(found, labels)


@pytest.mark.parametrize("tile_yx", [None, (32, 32)])
def test_an_mr_dinov3_is_validated_on_the_labels_that_users_get(tmp_path, prepare, random_state, tile_yx):
    preprocessing = dataclasses.replace(CARD.preprocessing, tile_yx=tile_yx)
    card = dataclasses.replace(CARD, preprocessing=preprocessing, arguments={"eps": 1e-5, "rope_dtype": "fp32"})
    (case,), (prepared,) = prepare(drawn(), card=card)
    network = build_network(card, random_state(3, gland=2, dil=2))
    with torch.no_grad():
        assert same_labels_as_the_segmenter(tmp_path, card, network, case, prepared)


@pytest.mark.parametrize(
    ("tile", "spacing"), [({"tile_yx": (32, 32)}, (1.0, 1.0)), ({"tile_zyx": (4, 32, 32)}, (3.0, 1.0, 1.0))]
)
def test_a_dense_network_is_validated_on_the_labels_that_users_get(tmp_path, prepare, tile, spacing):
    torch.manual_seed(0)
    sizes = {"channels": 1, "classes": 4, "base_features": 4, "max_features": 8}
    arguments = planned_unet(next(iter(tile.values())), spacing, **sizes)
    preprocessing = dataclasses.replace(CARD.preprocessing, **tile)
    card = dataclasses.replace(CARD, architecture="plain_conv_unet", arguments=arguments, preprocessing=preprocessing)
    (case,), (prepared,) = prepare(drawn(), card=card)
    with torch.no_grad():
        network = dense_network("plain_conv_unet", arguments).eval()
        assert same_labels_as_the_segmenter(tmp_path, card, network, case, prepared)


@pytest.mark.parametrize("inside", [True, False])
def test_a_dense_network_is_validated_in_the_engines_mixed_precision(prepare, inside):
    preprocessing = Preprocessing(IntensityRule("window", -1.0, 1.0), spacing_yx_mm=(1.0, 1.0), tile_yx=(32, 32))
    arguments = planned_unet((32, 32), (1.0, 1.0), channels=1, classes=4, base_features=2)
    arguments |= {"deep_supervision": False}
    card = dataclasses.replace(CARD, architecture="plain_conv_unet", arguments=arguments, preprocessing=preprocessing)
    _, (prepared,) = prepare(drawn(), card=card)
    network = dense_network("plain_conv_unet", arguments).eval()
    seen = set()
    network.register_forward_hook(lambda module, images, logits: seen.add(logits.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
        logits = logits_function(network, card, device=torch.device("cpu"), progress=SilentProgress())(prepared)
    assert seen == {torch.bfloat16 if inside else torch.float32}
    assert logits["gland"].dtype == torch.float32
