# SPDX-License-Identifier: Apache-2.0
"""A model card says the same after a trip through JSON, and a wrong one says what is wrong."""

import json
from dataclasses import replace

import pytest

from ProstateXferLib.checkpoints.card import CARD_VERSION, Head, ModelCard, Preprocessing, Score
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE, generic_structure

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
ENCODER = ModelCard(name="vit", task="encoder", architecture="dinov3", inputs=())
CARDS = {"segmentation": SEGMENTATION, "synthesis": SYNTHESIS, "encoder": ENCODER}


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
        (SEGMENTATION, {"heads": ()}, "needs at least one head"),
        (SEGMENTATION, {"heads": (Head("a", (1,)), Head("b", (1,)))}, "must be distinct"),
        (SEGMENTATION, {"heads": (Head("a", (0, 1)),)}, "not 0"),
        (SEGMENTATION, {"heads": (Head("a", (1, 7)),)}, r"among the structures \[1, 2, 9\]"),
        (SEGMENTATION, {"heads": (Head("a", (1,), within="Heart"),)}, "within 'Heart', which is no structure"),
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
        ({"tile_yx": (320, 100)}, "tile_yx must be multiples of 16 pixels"),
        ({"tile_yx": (0, 16)}, "tile_yx must be two positive numbers"),
        ({"encoder_range": (1.0, 1.0)}, "encoder_range must increase"),
        ({"encoder_range": None}, "encoder_range must increase"),
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
