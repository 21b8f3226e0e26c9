# SPDX-License-Identifier: Apache-2.0
"""Structures carry the codes other software knows them by."""

import json

import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import (
    DIL,
    FEMORAL_HEAD_LEFT,
    PERIPHERAL_ZONE,
    PROSTATE,
    STRUCTURES,
    TRANSITION_ZONE,
    Code,
    Structure,
    generic_structure,
    structure_by_name,
)


@pytest.mark.parametrize("structure", [*STRUCTURES, generic_structure(200)], ids=lambda s: s.name)
def test_a_structure_survives_the_model_card(structure):
    assert Structure.from_json(json.loads(json.dumps(structure.to_json()))) == structure


def test_values_names_and_ids_are_unique():
    for values in zip(*((s.value, s.name, s.segment_id) for s in STRUCTURES), strict=True):
        assert len(set(values)) == len(STRUCTURES)


def test_terminology_is_written_as_slicer_writes_it():
    assert PROSTATE.terminology == (
        "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^41216001^Prostate"
        "~^^~Anatomic codes - DICOM master list~^^~^^"
    )
    assert DIL.terminology.split("~")[1:3] == ["SCT^49755003^Morphologically Altered Structure", "SCT^4147007^Mass"]
    assert DIL.terminology.split("~")[5] == "SCT^41216001^Prostate"
    assert FEMORAL_HEAD_LEFT.terminology.split("~")[3] == "SCT^7771000^Left"


def test_lesions_and_zones_are_part_of_the_prostate():
    assert {s for s in STRUCTURES if s.part_of == PROSTATE.name} == {DIL, PERIPHERAL_ZONE, TRANSITION_ZONE}


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("prostate", PROSTATE),
        ("DIL", DIL),
        ("lesion", DIL),
        ("PZ", PERIPHERAL_ZONE),
        ("transition_zone", TRANSITION_ZONE),
    ],
)
def test_names_are_found_however_they_are_spelled(name, structure):
    assert structure_by_name(name) is structure


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ProstateXferError, match="Spleen.*Prostate, DIL"):
        structure_by_name("Spleen")


def test_another_label_value_changes_nothing_else():
    assert DIL.with_value(9).with_value(DIL.value) == DIL and DIL.with_value(9).value == 9


@pytest.mark.parametrize(
    "change",
    [{"value": 0}, {"name": ""}, {"color_rgb": [0, 0, 256]}, {"weight": 1}, {"type": {"value": "1"}}],
    ids=str,
)
def test_wrong_descriptions_are_refused(change):
    with pytest.raises(ProstateXferError):
        Structure.from_json(PROSTATE.to_json() | change)


@pytest.mark.parametrize("meaning", ["", "a~b", "a^b", "a|b"])
def test_codes_that_would_break_slicers_text_are_refused(meaning):
    with pytest.raises(ProstateXferError):
        Code("SCT", "1", meaning)


def test_empty_triples_are_no_code():
    assert Code.from_triple("^^") is None and Code.from_triple("") is None
    assert Code.from_triple(PROSTATE.type.triple) == PROSTATE.type
