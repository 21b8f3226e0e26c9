# SPDX-License-Identifier: Apache-2.0
"""Labelled points at the centroids."""

import numpy as np
import pytest
import SimpleITK as sitk
import vtk

from ProstateXferLib.metrics.measure import measure
from ProstateXferSlicer.scene.centroids import writeCentroids


def _measurements(lesions=2):
    voxels = np.zeros((20, 30, 30), np.uint8)
    voxels[4:14, 5:20, 5:20] = 1
    voxels[5:8, 6:11, 6:11] = 2
    if lesions > 1:
        voxels[11:13, 15:17, 15:17] = 2
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-20.0, 10.0, 5.0))
    return measure(image, names={1: "Prostate", 2: "DIL", 7: "Näme"})


@pytest.fixture
def node(scene):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Schwerpunkte")
    writeCentroids(_measurements(), node)
    return node


def _points(node) -> dict[str, tuple]:
    points = {}
    for index in range(node.GetNumberOfControlPoints()):
        position = [0.0] * 3
        node.GetNthControlPointPositionWorld(index, position)
        points[node.GetNthControlPointLabel(index)] = tuple(position)
    return points


def test_there_is_a_point_a_row_where_slicer_expects_it(node):
    points = _points(node)

    assert list(points) == ["Prostate", "DIL", "DIL L1", "DIL L2"]
    # Voxels 6..10, 6..10, 5..7: centre 8, 8, 6 in LPS (-20 + 8, 10 + 12, 5 + 12).
    assert points["DIL L1"] == pytest.approx((12, -22, 17))


def test_what_has_no_voxel_has_no_point(node):
    assert "Näme" not in _points(node)


def test_writing_again_replaces_the_points(node):
    writeCentroids(_measurements(lesions=1), node)

    assert list(_points(node)) == ["Prostate", "DIL", "DIL L1"]


def test_of_a_lesion_either_the_parts_are_visible_or_the_whole(node):
    assert _visible(node) == ["Prostate", "DIL L1", "DIL L2"]

    writeCentroids(_measurements(lesions=1), node)

    assert _visible(node) == ["Prostate", "DIL"]


def _visible(node) -> list[str]:
    count = node.GetNumberOfControlPoints()
    return [node.GetNthControlPointLabel(i) for i in range(count) if node.GetNthControlPointVisibility(i)]


def test_a_transform_above_the_node_does_not_move_the_points(node, scene):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 50)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())

    writeCentroids(_measurements(), node)

    assert _points(node)["DIL L1"] == pytest.approx((12, -22, 17))


def test_the_points_are_small_and_cannot_be_moved(node):
    assert node.GetLocked()
    assert node.GetDisplayNode().GetGlyphScale() < 3


def test_a_colour_the_user_has_chosen_stays(node):
    node.GetDisplayNode().SetSelectedColor(0, 0, 1)

    writeCentroids(_measurements(), node)

    assert node.GetDisplayNode().GetSelectedColor() == (0, 0, 1)


def test_a_saved_scene_keeps_the_points(node, scene, tmp_path):
    before = _points(node)

    assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "s.mrb"), True)

    back = scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
    assert _points(back) == {name: pytest.approx(point, abs=1e-4) for name, point in before.items()}
    assert back.GetName() == "Schwerpunkte"
