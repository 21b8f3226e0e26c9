# SPDX-License-Identifier: Apache-2.0
"""A model card says the same after a trip through JSON, and a wrong one says what is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ProstateXferLib.checkpoints.architectures import card_arguments, complete_arguments, tile_multiple
from ProstateXferLib.checkpoints.card import CARD_VERSION, Head, ModelCard, Preprocessing, Score
from ProstateXferLib.checkpoints.file_format import read_header
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE, generic_structure
from ProstateXferLib.networks.unet_planning import planned_unet

SHIPPED = Path(__file__).resolve().parents[3] / "Resources" / "Models"
ZSCORE = IntensityRule("zscore")
SEGMENTATION = ModelCard(
    name="gland-and-dil",
    task="segmentation",
    architecture="mr_dinov3",
    title="Prostate and DIL on T2w (größer als vorher)",
    arguments={"eps": 1e-5, "rope_dtype": "fp32", "blocks": [2, 5, 8, 11]},
    preprocessing=Preprocessing(
        IntensityRule("zscore", lower_percentile=0.5, upper_percentile=99.5),
        spacing_yx_mm=(0.5, 0.5),
        tile_yx=(320, 256),
    ),
    structures=(PROSTATE, DIL, generic_structure(9, "Label 9")),
    heads=(Head("gland", (1,), largest_only=True), Head("dil", (2, 9), "Prostate", 6.0, 0.1)),
    training_data="12 cases, in one sentence.",
    licence="Apache-2.0",
    citation="nobody, 2026",
    scores=(Score("Dice", 0.87, "5 cases never seen", 5),),
    history=({"stage": "a", "seed": 0}, {"imported_from": "x.pth", "sha256": "0" * 64}),
)
SYNTHESIS = ModelCard(
    name="mr-to-ct",
    task="synthesis",
    architecture="dgcf",
    preprocessing=Preprocessing(IntensityRule("percentile"), resize_yx=(256, 256), encoder_range=(0.0, 2.0)),
    hu_range=(-1024.0, 2000.0),
)
PLAN = planned_unet((16, 64, 64), (3.0, 0.8, 0.8), channels=2, classes=5)
DENSE = ModelCard(
    name="skeleton",
    task="segmentation",
    architecture="plain_conv_unet",
    arguments=PLAN,
    inputs=("T1w", "DWI"),
    preprocessing=Preprocessing(
        IntensityRule("standardise", mean=101.5, deviation=33.25),
        further_intensities=(IntensityRule("percentile01"),),
        spacing_zyx_mm=(3.0, 0.8, 0.8),
        tile_zyx=(16, 64, 64),
        overlap=0.25,
        blending="constant",
        mirror_axes=("y", "x"),
        n4=True,
    ),
    structures=(PROSTATE, DIL, generic_structure(9, "Label 9")),
    heads=(Head("gland", (1, 9)), Head("dil", (2,), "Prostate", threshold=0.35)),
)
ENCODER = ModelCard(name="vit", task="encoder", architecture="dinov3", inputs=())
CARDS = {"segmentation": SEGMENTATION, "dense": DENSE, "synthesis": SYNTHESIS, "encoder": ENCODER}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_comes_back_from_json(card):
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(card.to_json()).to_json() == card.to_json()


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_the_json_is_one_sorted_object_that_names_its_version(card):
    values = json.loads(card.to_json())
    assert values["card_version"] == CARD_VERSION
    assert list(values) == sorted(values)


def test_every_card_says_that_it_is_for_research():
    assert all("not a medical device" in card.intended_use for card in CARDS.values())


@pytest.mark.parametrize(
    ("card", "changes", "told"),
    [
        (ENCODER, {"task": "classification"}, "task 'classification' is none of segmentation, synthesis, encoder"),
        (ENCODER, {"architecture": "unet"}, "architecture 'unet' is not known to this version"),
        (ENCODER, {"architecture": "dgcf"}, "'dgcf' cannot do the task 'encoder'"),
        (ENCODER, {"arguments": [1]}, "arguments must be a JSON object"),
        (SYNTHESIS, {"hu_range": None}, "needs an increasing hu_range"),
        (SYNTHESIS, {"hu_range": (2000.0, -1024.0)}, "needs an increasing hu_range"),
        (SYNTHESIS, {"hu_range": (0.0,)}, "needs an increasing hu_range"),
        (SYNTHESIS, {"preprocessing": None}, "the preprocessing or the input's name is missing"),
        (SYNTHESIS, {"inputs": ()}, "the preprocessing or the input's name is missing"),
        (SEGMENTATION, {"preprocessing": Preprocessing(ZSCORE, tile_yx=(320, 100))}, "multiples of 16 pixels"),
        (SEGMENTATION, {"heads": ()}, "needs at least one head"),
        (SEGMENTATION, {"heads": (Head("a", (1,)), Head("b", (1,)))}, "must be distinct"),
        (SEGMENTATION, {"heads": (Head("a", (0, 1)),)}, "not 0"),
        (SEGMENTATION, {"heads": (Head("a", (1, 7)),)}, r"among the structures \[1, 2, 9\]"),
        (SEGMENTATION, {"heads": (Head("a", (1,), within="Heart"),)}, "within 'Heart', which is no structure"),
        (SEGMENTATION, {"preprocessing": Preprocessing(ZSCORE, blending="constant")}, "blending means nothing for"),
        (
            SEGMENTATION,
            {"preprocessing": Preprocessing(ZSCORE, tile_zyx=(16, 16, 16))},
            "takes a tile_yx, not a tile_zyx",
        ),
        (SEGMENTATION, {"architecture": "plain_conv_unet"}, "need 'strides'"),
        (DENSE, {"preprocessing": Preprocessing(ZSCORE, tile_yx=(64, 64))}, "takes a tile_zyx, not a tile_yx"),
        (DENSE, {"preprocessing": Preprocessing(ZSCORE, tile_zyx=(16, 64, 40))}, r"multiples of \(4, 16, 16\) pixels"),
        (DENSE, {"preprocessing": Preprocessing(ZSCORE, tile_zyx=(4, 16, 16))}, "a single pixel in the deepest stage"),
        (DENSE, {"preprocessing": replace(DENSE.preprocessing, further_intensities=(ZSCORE,) * 2)}, "2 further_inten"),
        (DENSE, {"inputs": ("T1w", "DWI", "ADC"), "preprocessing": None}, "the preprocessing or the input's name"),
        (
            DENSE,
            {"inputs": ("T1w",), "preprocessing": Preprocessing(ZSCORE)},
            "input_channels is 2, but the inputs make 1",
        ),
        (DENSE, {"heads": DENSE.heads[:1]}, "num_classes is 5, but the heads with a background each make 3"),
        (DENSE, {"arguments": PLAN | {"strides": 2}}, "need 'strides'"),
        (DENSE, {"arguments": PLAN | {"weights_file": "/home/me/w.pth"}}, "'weights_file' belongs to a recipe"),
        (SEGMENTATION, {"structures": (*SEGMENTATION.structures, PROSTATE)}, "two structures have the same name"),
        (SEGMENTATION, {"structures": (PROSTATE, PROSTATE.with_value(9), DIL)}, "two structures have the same name"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(card, changes, told):
    with pytest.raises(ProstateXferError, match=told):
        replace(card, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spacing_yx_mm": (0.5,)}, "spacing_yx_mm must be two positive numbers"),
        ({"spacing_yx_mm": (0.5, -0.5)}, "spacing_yx_mm must be two positive numbers"),
        ({"resize_yx": ("a", "b")}, "resize_yx must be two positive numbers"),
        ({"tile_yx": (0, 16)}, "tile_yx must be two positive numbers"),
        ({"encoder_range": (1.0, 1.0)}, "encoder_range must increase"),
        ({"encoder_range": None}, "encoder_range must increase"),
        ({"spacing_zyx_mm": (1.0, 1.0)}, "spacing_zyx_mm must be three positive numbers"),
        ({"spacing_zyx_mm": (1.0, 1.0, float("nan"))}, "spacing_zyx_mm must be three positive numbers"),
        ({"spacing_zyx_mm": (1.0, 1.0, 1.0), "spacing_yx_mm": (1.0, 1.0)}, "spacing_zyx_mm excludes"),
        ({"spacing_zyx_mm": (1.0, 1.0, 1.0), "resize_yx": (64, 64)}, "spacing_zyx_mm excludes"),
        ({"tile_zyx": (16, 16, 16), "tile_yx": (16, 16)}, "a tile_yx and a tile_zyx"),
        ({"overlap": 1.0}, "overlap must be from 0 up to, not, 1"),
        ({"overlap": "half"}, "overlap must be from 0 up to, not, 1"),
        ({"blending": "linear"}, "'linear' is none of gaussian, constant"),
        ({"mirror_axes": ("x", "x")}, "mirror_axes may be z, y and x, each once"),
        ({"mirror_axes": ("w",)}, "mirror_axes may be z, y and x, each once"),
        ({"n4": "yes"}, "n4 must be true or false"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(changes, told):
    with pytest.raises(ProstateXferError, match=told):
        Preprocessing(IntensityRule("zscore"), **changes)


def edited(card, **changes):
    values = json.loads(card.to_json()) | changes
    return json.dumps({key: value for key, value in values.items() if value != "(removed)"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", f"version None, this ProstateXfer reads version {CARD_VERSION}"),
        (edited(ENCODER, card_version=99), "version 99.*update ProstateXfer"),
        (edited(ENCODER, colour="red"), "'vit' is malformed.*colour"),
        (edited(ENCODER, task="(removed)"), "'vit' is malformed.*task"),
        (edited(SYNTHESIS, hu_range=["a", "b"]), "'mr-to-ct' is malformed"),
        (edited(SYNTHESIS, hu_range=5), "'mr-to-ct' is malformed"),
        (edited(SYNTHESIS, preprocessing=5), "'mr-to-ct' is malformed"),
        (edited(SYNTHESIS, preprocessing={}), "'mr-to-ct' is malformed"),
        (edited(SYNTHESIS, preprocessing={"intensity": {"kind": "magic"}}), "'magic' is unknown"),
        (edited(SEGMENTATION, heads=[{"name": "gland"}]), "'gland-and-dil' is malformed"),
        (edited(SEGMENTATION, heads=[5]), "'gland-and-dil' is malformed"),
        (edited(SEGMENTATION, structures=[{"value": 1}]), "."),
        (edited(SEGMENTATION, scores=[{"metric": "Dice"}]), "'gland-and-dil' is malformed"),
        (edited(SEGMENTATION, history=5), "'gland-and-dil' is malformed"),
    ],
)
def test_malformed_json_is_one_sentence(text, told):
    with pytest.raises(ProstateXferError, match=told) as caught:
        ModelCard.from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, "half", float("nan")])
def test_a_threshold_that_decides_nothing_is_refused(threshold):
    with pytest.raises(ProstateXferError, match="Head 'gland': the threshold must be between 0 and 1"):
        Head("gland", (1,), threshold=threshold)


def test_a_card_says_nothing_of_what_the_first_cards_did_not_have_and_it_does_not_use():
    """So that such cards stay as they are, byte by byte, and the versions that wrote them read them."""
    values = json.loads(SEGMENTATION.to_json())
    assert set(values["preprocessing"]) == {"intensity", "spacing_yx_mm", "resize_yx", "tile_yx", "encoder_range"}
    assert set(values["preprocessing"]["intensity"]) == {
        "kind",
        "lower",
        "upper",
        "lower_percentile",
        "upper_percentile",
    }
    assert all("threshold" not in head for head in values["heads"])


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_cards_are_written_again_as_they_are_byte_by_byte(path):
    header, _ = read_header(path)
    text = header["__metadata__"]["card"]
    assert ModelCard.from_json(text).to_json() == text


def test_a_u_nets_tile_is_a_multiple_of_its_strides_and_smps_of_32():
    assert tile_multiple("plain_conv_unet", PLAN) == (4, 16, 16)
    assert tile_multiple("residual_encoder_unet", {"strides": [[1, 1], [2, 2], [2, 1]]}) == (4, 2)
    assert tile_multiple("smp", {}) == (32, 32)
    assert tile_multiple("swin_unetr", {}) == (32, 32, 32)
    assert tile_multiple("swin_unetr", {"spatial_dims": 2}) == (32, 32)
    assert tile_multiple("mr_dinov3", {}) == (16, 16)


def test_channels_and_classes_are_filled_in_under_each_architectures_own_names():
    assert complete_arguments("smp", {"encoder": "resnet18"}, channels=2, classes=3) == {
        "encoder": "resnet18",
        "channels": 2,
        "classes": 3,
    }
    assert complete_arguments("swin_unetr", {}, channels=2, classes=3) == {"in_channels": 2, "out_channels": 3}
    with pytest.raises(ProstateXferError, match="num_classes is 5, but 4 are needed"):
        complete_arguments("plain_conv_unet", PLAN, channels=2, classes=4)
    with pytest.raises(ProstateXferError, match="'mr_dinov3' is no dense architecture"):
        complete_arguments("mr_dinov3", {}, channels=1, classes=2)


def test_a_card_keeps_nothing_of_where_training_began():
    assert card_arguments({"encoder": "resnet18", "encoder_weights": "imagenet", "weights_file": "w.pth"}) == {
        "encoder": "resnet18"
    }
