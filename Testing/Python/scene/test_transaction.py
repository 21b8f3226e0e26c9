# SPDX-License-Identifier: Apache-2.0
"""Nodes that belong together appear together, or the scene is as it was."""

import pytest
import slicer
import vtk

from ProstateXferSlicer.scene.transaction import nodesOrNothing


def _names(scene) -> list[str]:
    """Ids of all nodes but the subject hierarchy, which comes with the first node that has a place in it."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return sorted(node.GetID() for node in nodes if not node.IsA("vtkMRMLSubjectHierarchyNode"))


def _hierarchy(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def test_without_an_error_everything_stays(scene):
    with nodesOrNothing():
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", "stays")

    assert scene.IsNodePresent(node)


def test_after_an_error_the_scene_is_as_it_was(scene):
    kept = scene.AddNewNodeByClass("vtkMRMLTableNode", "before")
    before = _names(scene)

    with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
        segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "with display and storage")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.AddDefaultStorageNode()
        scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode").CreateDefaultDisplayNodes()
        raise ValueError("halfway")

    assert _names(scene) == before
    assert scene.IsNodePresent(kept)


def test_what_the_user_removed_meanwhile_is_no_second_error(scene):
    before = _names(scene)

    with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
        node = scene.AddNewNodeByClass("vtkMRMLTableNode")
        scene.AddNewNodeByClass("vtkMRMLTableNode")
        scene.RemoveNode(node)
        raise ValueError("halfway")

    assert _names(scene) == before


def test_a_scene_closed_meanwhile_is_no_second_error(scene):
    with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
        scene.AddNewNodeByClass("vtkMRMLTableNode")
        scene.Clear(False)
        raise ValueError("halfway")

    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def test_the_items_of_removed_nodes_leave_the_subject_hierarchy(scene):
    hierarchy = _hierarchy(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "study")

    with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
        hierarchy.CreateItem(folder, scene.AddNewNodeByClass("vtkMRMLTableNode"))
        raise ValueError("halfway")

    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, children)
    assert children.GetNumberOfIds() == 0
    assert _hierarchy(scene) is hierarchy


def test_nodes_of_the_application_stay(scene):
    with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
        parameters = slicer.vtkMRMLScriptedModuleNode()
        parameters.SetSingletonTag("SomeModule")
        scene.AddNode(parameters)
        raise ValueError("halfway")

    assert scene.GetSingletonNode("SomeModule", "vtkMRMLScriptedModuleNode") is not None
    scene.RemoveNode(scene.GetSingletonNode("SomeModule", "vtkMRMLScriptedModuleNode"))


def test_an_interruption_counts_as_an_error(scene):
    before = _names(scene)

    with pytest.raises(KeyboardInterrupt), nodesOrNothing():
        scene.AddNewNodeByClass("vtkMRMLTableNode")
        raise KeyboardInterrupt

    assert _names(scene) == before


@pytest.mark.parametrize("failing", [False, True])
def test_a_batch_process_that_began_within_does_not_outlive_it(scene, failing):
    state = slicer.vtkMRMLScene.BatchProcessState
    try:
        with nodesOrNothing():
            scene.StartState(state)
            scene.StartState(state)
            if failing:
                raise ValueError("halfway")
    except ValueError:
        pass

    assert not scene.IsBatchProcessing()


def test_a_batch_process_around_it_goes_on(scene):
    state = slicer.vtkMRMLScene.BatchProcessState
    scene.StartState(state)
    try:
        with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
            node = scene.AddNewNodeByClass("vtkMRMLTableNode")
            raise ValueError("halfway")
        assert scene.IsBatchProcessing()
        assert not scene.IsNodePresent(node)
    finally:
        scene.EndState(state)


def test_nodes_added_afterwards_are_none_of_its_business(scene):
    with pytest.raises(ValueError, match="halfway"), nodesOrNothing():
        raise ValueError("halfway")

    node = scene.AddNewNodeByClass("vtkMRMLTableNode")

    assert scene.IsNodePresent(node)
