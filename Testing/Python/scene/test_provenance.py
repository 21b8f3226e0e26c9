# SPDX-License-Identifier: Apache-2.0
"""What made a node is written on the node, and survives every way of saving it."""

from pathlib import Path

import pytest

from ProstateXferSlicer.scene.provenance import provenanceOf, setProvenance

_RECORD = {
    "ResearchUseOnly": True,
    "Model": "prostate-dil-small",
    "Version": "1.0",
    "Count": 3,
    "Threshold": 0.1,
    "Nothing": None,
    "Empty": "",
    "Options": ["--tasks", "prostate", "dil"],
    "Provenance": {"sha256": "ab12", "input": {"uid": "1.2.3", "grid": [0.5, 0.7, 3.0]}},
    "Warnings": ["Größe; Länge: 3 mm & <mehr>", "zwei\nZeilen\t\"Zitat\" 'so' %20 \\n"],
    "Schlüssel": "ж; x:y;",
}


@pytest.fixture
def node(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", "T")
    node.SetAttribute("Other.Module", "its own")
    setProvenance(node, _RECORD)
    return node


def test_what_was_written_is_read(node):
    assert provenanceOf(node) == _RECORD


def test_texts_are_readable_attributes(node):
    assert node.GetAttribute("ProstateXfer.Model") == "prostate-dil-small"


@pytest.mark.parametrize("text", ["1", "true", "null", "[1]", '"quoted"', "NaN", "{broken", " "])
def test_a_text_that_looks_like_something_else_stays_a_text(node, text):
    setProvenance(node, {"Text": text})

    assert provenanceOf(node) == {"Text": text}


def test_paths_tuples_and_missing_numbers_become_what_json_knows(node):
    setProvenance(node, {"File": Path("a.nrrd"), "Spacing": (1.0, 2.0), "Dice": float("nan")})

    assert provenanceOf(node) == {"File": "a.nrrd", "Spacing": [1.0, 2.0], "Dice": None}


def test_a_new_record_replaces_the_old_one_and_nothing_else(node):
    setProvenance(node, {"Model": "other"})

    assert provenanceOf(node) == {"Model": "other"}
    assert node.GetAttribute("Other.Module") == "its own"


def test_a_node_of_the_user_has_none(scene):
    assert provenanceOf(scene.AddNewNodeByClass("vtkMRMLTableNode")) == {}


def test_it_survives_an_mrb(node, scene, tmp_path):
    assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "s.mrb"), True)

    assert provenanceOf(scene.GetFirstNodeByClass("vtkMRMLTableNode")) == _RECORD


def test_it_survives_an_mrml(node, scene, tmp_path):
    # Nothing but the scene file: the table's own file is another matter.
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "s.mrml"))
    scene.Clear(False)
    scene.SetURL(str(tmp_path / "s.mrml"))
    scene.Import()

    assert provenanceOf(scene.GetFirstNodeByClass("vtkMRMLTableNode")) == _RECORD
