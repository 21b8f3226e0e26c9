# SPDX-License-Identifier: Apache-2.0
"""Our list for Slicer's terminology selector says the same as the structures of the library."""

import json

import pytest
import slicer
import vtk

from ProstateXferLib.images.structures import STRUCTURES
from ProstateXferLib.resources_dir import resources_dir
from ProstateXferSlicer.scene.terminology import CONTEXT_NAME, FILE_NAME, loadTerminology


@pytest.fixture(scope="module")
def document():
    return json.loads((resources_dir() / "Terminology" / FILE_NAME).read_text(encoding="utf-8"))


def _code(entry) -> tuple[str, str, str]:
    return entry["CodingSchemeDesignator"], entry["CodeValue"], entry["CodeMeaning"]


def _entries(document):
    """(name, category, type, modifier or None, colour) of everything that can be chosen."""
    for category in document["SegmentationCodes"]["Category"]:
        for kind in category["Type"]:
            for choice in kind.get("Modifier", [kind]):
                modifier = _code(choice) if choice is not kind else None
                color = tuple(choice["recommendedDisplayRGBValue"])
                yield choice["3dSlicerLabel"], _code(category), _code(kind), modifier, color


def test_the_list_holds_every_structure_and_nothing_else(document):
    def triple(code):
        return code and (code.scheme, code.value, code.meaning)

    expected = {(s.name, triple(s.category), triple(s.type), triple(s.modifier), s.color_rgb) for s in STRUCTURES}
    assert set(_entries(document)) == expected


def test_the_file_is_what_slicer_takes_for_a_terminology(document):
    assert FILE_NAME.endswith(".term.json")
    assert (
        document["@schema"] == "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#"
    )
    assert document["SegmentationCategoryTypeContextName"] == CONTEXT_NAME


def test_slicer_offers_the_list_with_names_and_colours(scene):
    assert loadTerminology()

    logic = slicer.modules.terminologies.logic()
    for structure in STRUCTURES:
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.FindTypeInTerminologyBy3dSlicerLabel(CONTEXT_NAME, structure.name, entry)
        found = entry.GetTypeModifierObject() if structure.modifier else entry.GetTypeObject()
        assert entry.GetTypeObject().GetCodeValue() == structure.type.value
        assert tuple(found.GetRecommendedDisplayRGBValue()) == structure.color_rgb


def test_loading_twice_is_loading_once(scene):
    assert loadTerminology()
    assert loadTerminology()

    names = vtk.vtkStringArray()
    slicer.modules.terminologies.logic().GetLoadedTerminologyNames(names)
    assert [names.GetValue(i) for i in range(names.GetNumberOfValues())].count(CONTEXT_NAME) == 1


def test_a_slicer_without_the_module_is_told_by_the_answer(scene, monkeypatch):
    monkeypatch.delattr(slicer.modules, "terminologies")

    assert not loadTerminology()


def test_a_missing_file_is_told_by_the_answer(scene, monkeypatch, tmp_path):
    (tmp_path / "Models").mkdir()
    monkeypatch.setenv("PROSTATEXFER_RESOURCES", str(tmp_path))
    monkeypatch.setattr("ProstateXferSlicer.scene.terminology.CONTEXT_NAME", "not loaded yet")

    assert not loadTerminology()
