# SPDX-License-Identifier: Apache-2.0
"""A study becomes nodes: each output its own, named after its input, beside it, or none at all."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import read_image
from ProstateXferSlicer.scene.provenance import provenanceOf
from ProstateXferSlicer.scene.results import addStudy, uniqueName
from ProstateXferSlicer.scene.volumes import imageOfVolume
from study_child.fixtures import sceneState

VOLUMES = {
    "uncertainty": ("uncertaintyMap", "T2w uncertainty"),
    "ct-from-mr": ("syntheticCtFromMr", "T2w synthetic CT"),
    "ct-from-cbct": ("syntheticCtFromCbct", "CBCT synthetic CT"),
    "ct-from-mr-difference": ("differenceFromMr", "T2w synthetic CT minus reference"),
    "ct-from-cbct-difference": ("differenceFromCbct", "CBCT synthetic CT minus reference"),
}


@pytest.fixture
def inputs(t2w_volume, cbct_volume, ct_volume):
    """The nodes that the study was made from."""
    return {"t2w": t2w_volume, "cbct": cbct_volume, "reference_ct": ct_volume}


@pytest.fixture
def nodes(whole_study, inputs):
    """The nodes of the whole study."""
    return addStudy(StudyResult.read(whole_study), inputs)


@pytest.mark.parametrize("key", VOLUMES)
def test_a_volume_has_the_voxels_and_the_place_of_its_file(nodes, whole_study, key):
    field, name = VOLUMES[key]
    node, image = getattr(nodes, field), read_image(StudyResult.read(whole_study).path(key))
    assert node.GetName() == name
    back = imageOfVolume(node)
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    assert np.allclose(back.GetOrigin(), image.GetOrigin()) and np.allclose(back.GetSpacing(), image.GetSpacing())


def test_volumes_are_shown_as_what_they_are(nodes):
    ct, difference = nodes.syntheticCtFromMr.GetDisplayNode(), nodes.differenceFromMr.GetDisplayNode()
    assert (ct.GetWindow(), ct.GetLevel()) == (400.0, 40.0)
    assert (difference.GetWindowLevelMin(), difference.GetWindowLevelMax()) == (-200.0, 200.0)
    assert nodes.uncertaintyMap.GetDisplayNode().GetApplyThreshold()
    assert nodes.syntheticCtFromMr.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"


def test_every_node_lies_beside_its_input_and_says_what_made_it(nodes, inputs, whole_study):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    made = [node for node in vars(nodes).values() if node is not None]
    assert len(made) == 9
    for node in made:
        assert hierarchy.GetItemByDataNode(node), node.GetName()
        kept = provenanceOf(node)
        assert set(kept) == {"ResearchUseOnly", "Options", "Provenance", "Warnings"}
        assert set(kept["Provenance"]) == {"segmentation", "ct-from-mr", "ct-from-cbct"}


def test_each_ct_goes_to_the_study_of_its_own_input(inputs, whole_study):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    places = {}
    for name in ("t2w", "cbct"):
        places[name] = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), name)
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(inputs[name]), places[name])
    nodes = addStudy(StudyResult.read(whole_study), inputs)

    def place(node):
        return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))

    assert {place(nodes.syntheticCtFromMr), place(nodes.segmentation)} == {places["t2w"]}
    assert {place(nodes.syntheticCtFromCbct), place(nodes.differenceFromCbct)} == {places["cbct"]}


def test_a_second_study_gets_names_of_its_own(nodes, whole_study, inputs):
    again = addStudy(StudyResult.read(whole_study), inputs)
    for field in ("segmentation", "measurements", "centroids", "syntheticCtFromMr"):
        first, second = getattr(nodes, field), getattr(again, field)
        assert first is not second and second.GetName() == f"{first.GetName()}_1"
    assert uniqueName("never seen") == "never seen"


def test_a_study_without_tasks_on_the_mr_makes_no_segmentation(study_of, cbct_volume):
    nodes = addStudy(StudyResult.read(study_of("ct-from-cbct")), {"cbct": cbct_volume})
    assert [name for name, node in vars(nodes).items() if node is not None] == ["syntheticCtFromCbct"]


@pytest.mark.parametrize("key", ["segmentation", "uncertainty", "ct-from-mr", "ct-from-cbct-difference"])
@pytest.mark.parametrize("damage", ["cut off", "missing", "other content"])
def test_one_bad_file_and_the_scene_is_as_it_was(whole_study, inputs, tmp_path, key, damage):
    import shutil

    folder = tmp_path / "study"
    shutil.copytree(whole_study, folder)
    result = StudyResult.read(folder)
    path = result.path(key)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200] if damage == "cut off" else b"not an image")
    before = sceneState()
    with pytest.raises(ProstateXferError) as raised:
        addStudy(result, inputs)
    assert "\n" not in str(raised.value)
    assert sceneState() == before


def test_an_empty_gland_is_a_segment_and_a_row_without_a_point(study_of, t2w_volume):
    study = study_of("prostate")
    values = json.loads((study / "study.json").read_text(encoding="utf-8"))
    gland = values["measurements"][0]
    for name in ("centroid_lps", "centroid_ras", "extent_mm", "bounds_lps", "offset_from_gland_lps"):
        gland[name] = None
    gland.update(voxel_count=0, volume_cm3=0.0)
    values["measurements"] = [gland]
    (study / "study.json").write_text(json.dumps(values))
    nodes = addStudy(StudyResult.read(study), {"t2w": t2w_volume})
    assert nodes.measurements.GetTable().GetNumberOfRows() == 1
    assert nodes.centroids.GetNumberOfControlPoints() == 0
