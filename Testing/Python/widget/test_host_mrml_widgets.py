# SPDX-License-Identifier: Apache-2.0
"""The host's MRML widgets follow the real scene by the rules of Slicer's."""

import pytest
import slicer
import vtk

_VOLUME, _LABELS = "vtkMRMLScalarVolumeNode", "vtkMRMLLabelMapVolumeNode"


@pytest.fixture
def selector(scene):
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = [_VOLUME]
    box.showChildNodeTypes = False
    box.noneEnabled = True
    box.setMRMLScene(scene)
    return box


@pytest.fixture
def changes(selector):
    names = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: names.append(node and node.GetName()))
    return names


def _listed(selector) -> list[str]:
    return [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())]


def test_the_list_follows_the_scene(selector, scene):
    t2w = scene.AddNewNodeByClass(_VOLUME, "T2w")
    scene.AddNewNodeByClass(_LABELS, "labels")
    scene.AddNewNodeByClass(_VOLUME, "ADC")
    assert _listed(selector) == ["T2w", "ADC"]
    scene.RemoveNode(t2w)
    assert _listed(selector) == ["ADC"]
    scene.Clear(False)
    assert _listed(selector) == []


def test_child_types_are_listed_unless_they_are_switched_off(selector, scene):
    scene.AddNewNodeByClass(_LABELS, "labels")
    selector.showChildNodeTypes = True
    assert _listed(selector) == ["labels"]


def test_hidden_nodes_are_not_listed(selector, scene):
    node = scene.AddNewNodeByClass(_VOLUME, "T2w")
    node.SetHideFromEditors(True)
    assert _listed(selector) == []
    node.SetHideFromEditors(False)
    assert _listed(selector) == ["T2w"]


def test_an_attribute_can_be_asked_for(selector, scene):
    scene.AddNewNodeByClass(_VOLUME, "T2w")
    selector.addAttribute(_VOLUME, "Kind", "CT")
    assert _listed(selector) == []
    made = selector.addNode()
    assert (made.GetAttribute("Kind"), selector.currentNode()) == ("CT", made)


def test_with_none_nothing_is_selected_until_the_user_does(selector, scene, changes):
    node = scene.AddNewNodeByClass(_VOLUME, "T2w")
    assert selector.currentNode() is None and changes == []
    selector.setCurrentNode(node)
    assert (selector.currentNodeID, changes) == (node.GetID(), ["T2w"])


def test_without_none_the_first_node_is_selected(selector, scene, changes):
    selector.noneEnabled = False
    scene.AddNewNodeByClass(_VOLUME, "T2w")
    scene.AddNewNodeByClass(_VOLUME, "ADC")
    assert (selector.currentNode().GetName(), changes) == ("T2w", ["T2w"])


def test_a_deleted_node_is_no_longer_selected(selector, scene, changes):
    node = scene.AddNewNodeByClass(_VOLUME, "T2w")
    selector.setCurrentNode(node)
    scene.RemoveNode(node)
    assert (selector.currentNode(), changes) == (None, ["T2w", None])


def test_a_node_wanted_before_there_is_a_scene_is_selected_later(scene):
    node = scene.AddNewNodeByClass(_VOLUME, "T2w")
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes, box.noneEnabled = [_VOLUME], True
    box.setCurrentNode(node)
    assert not box.enabled and box.currentNode() is None
    box.setMRMLScene(scene)
    assert box.enabled and box.currentNode() is node


def test_a_selector_that_is_gone_does_not_listen_any_more(scene, callback_errors):
    import gc

    box = slicer.qMRMLNodeComboBox()
    box.setMRMLScene(scene)
    del box
    gc.collect()
    scene.AddNewNodeByClass(_VOLUME, "T2w")
    assert callback_errors == []


def test_a_table_view_shows_the_rows_of_its_node(scene):
    node, view = scene.AddNewNodeByClass("vtkMRMLTableNode", "volumes"), slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    names = node.AddColumn()
    names.SetName("Structure")
    names.InsertNextValue("Prostate")
    volumes = vtk.vtkDoubleArray()
    volumes.SetName("Volume")
    volumes.InsertNextValue(42.5)
    node.AddColumn(volumes)
    model = view.model()
    assert (model.rowCount(), model.columnCount()) == (1, 2)
    assert [model.data(model.index(0, column)) for column in (0, 1)] == ["Prostate", "42.5"]


def test_widgets_take_only_nodes_of_their_own_type(scene):
    wrong = scene.AddNewNodeByClass(_VOLUME, "T2w")
    with pytest.raises(TypeError):
        slicer.qMRMLTableView().setMRMLTableNode(wrong)
    with pytest.raises(TypeError):
        slicer.qMRMLSegmentationShow3DButton().setSegmentationNode(wrong)


def test_the_segments_table_lists_segments_and_the_3d_button_makes_their_surface(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    table, button = slicer.qMRMLSegmentsTableView(), slicer.qMRMLSegmentationShow3DButton()
    table.setSegmentationNode(node)
    assert node.GetSegmentation().AddEmptySegment("prostate", "Prostate") == "prostate"
    assert (table.segmentCount, table.displayedSegmentIDs()) == (1, ("prostate",))
    assert not button.enabled
    button.setSegmentationNode(node)
    assert button.enabled and not button.checked
