# SPDX-License-Identifier: Apache-2.0
"""A segmentation node becomes a file that the library and Slicer read alike, and the node does not notice."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from made_images.gland import gland_with_lesion

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.segmentation_file import read_segmentation, write_segmentation
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferSlicer.scene.segmentations import loadSegmentation, segmentationFile
from ProstateXferSlicer.scene.volumes import volumeOfImage


@pytest.fixture
def node(scene, tmp_path):
    volume = volumeOfImage(sitk.Cast(gland_with_lesion(), sitk.sitkInt16), "T2")
    path = write_segmentation(gland_with_lesion(), (PROSTATE, DIL), tmp_path / "in.seg.nrrd")
    return loadSegmentation(path, "Segmentierung größer", volume)


def _add_transform(node, *changes):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Transform")
    matrix = vtk.vtkMatrix4x4()
    for row, column, value in changes:
        matrix.SetElement(row, column, value)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())


def test_the_library_reads_back_what_it_had_written(node, tmp_path):
    labels, structures = read_segmentation(segmentationFile(node, tmp_path / "größe.seg.nrrd"))

    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(gland_with_lesion()))
    assert labels.GetOrigin() == pytest.approx(gland_with_lesion().GetOrigin())
    assert labels.GetDirection() == pytest.approx(gland_with_lesion().GetDirection())
    assert structures == (PROSTATE, DIL)


def test_an_edit_and_a_new_segment_are_in_the_file(node, tmp_path):
    node.GetSegmentation().GetSegment("DIL").SetName("Index-Läsion")
    node.GetSegmentation().AddEmptySegment("n", "Neu")

    _, structures = read_segmentation(segmentationFile(node, tmp_path / "out.seg.nrrd"))

    assert [(s.name, s.segment_id) for s in structures] == [
        ("Prostate", "Prostate"),
        ("Index-Läsion", "DIL"),
        ("Neu", "n"),
    ]
    assert len({s.value for s in structures}) == 3


def test_a_linear_transform_is_in_the_file_and_the_node_keeps_its_own(node, tmp_path):
    _add_transform(node, (0, 3, 10), (2, 3, -5))

    labels, _ = read_segmentation(segmentationFile(node, tmp_path / "out.seg.nrrd"))

    left, posterior, superior = gland_with_lesion().GetOrigin()
    assert labels.GetOrigin() == pytest.approx((left - 10, posterior, superior - 5))
    assert node.GetParentTransformNode().GetName() == "Transform"
    labelmap = node.GetBinaryLabelmapInternalRepresentation("DIL")
    assert labelmap.GetOrigin() == pytest.approx((-left, -posterior, superior))


@pytest.mark.parametrize("changes", [((0, 1, 0.4),), ((2, 2, 0),)], ids=["shear", "projection"])
def test_a_transform_that_no_header_can_express_is_refused(node, tmp_path, changes):
    _add_transform(node, *changes)

    with pytest.raises(ProstateXferError, match="shears it or flattens it; harden"):
        segmentationFile(node, tmp_path / "out.seg.nrrd")

    assert not (tmp_path / "out.seg.nrrd").exists()


def test_a_warp_is_refused(node, scene, tmp_path):
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    warp.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
    node.SetAndObserveTransformNodeID(warp.GetID())

    with pytest.raises(ProstateXferError, match="segmentation 'Segmentierung größer' is under the non-linear"):
        segmentationFile(node, tmp_path / "out.seg.nrrd")


def test_the_node_keeps_its_own_file_and_stays_unsaved(node, scene, tmp_path):
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName("/elsewhere/mine.seg.nrrd")
    state = (node.GetMTime(), node.GetSegmentation().GetMTime(), node.GetModifiedSinceRead(), scene.GetNumberOfNodes())

    segmentationFile(node, tmp_path / "out.seg.nrrd")

    assert node.GetStorageNode().GetFileName() == "/elsewhere/mine.seg.nrrd"
    after = (node.GetMTime(), node.GetSegmentation().GetMTime(), node.GetModifiedSinceRead(), scene.GetNumberOfNodes())
    assert after == state


def test_where_everything_was_erased_the_grid_is_still_that_of_the_image(node, tmp_path):
    segmentation = node.GetSegmentation()
    for segment_id in ("Prostate", "DIL"):
        segmentation.RemoveSegment(segment_id)
        segmentation.AddEmptySegment(segment_id, segment_id)

    labels, structures = read_segmentation(segmentationFile(node, tmp_path / "out.seg.nrrd"))

    assert labels.GetSize() == gland_with_lesion().GetSize()
    assert not sitk.GetArrayViewFromImage(labels).any()
    assert [s.name for s in structures] == ["Prostate", "DIL"]


def test_a_segment_that_a_script_left_without_an_image_is_written_empty(node, tmp_path):
    node.GetSegmentation().GetSegment("DIL").RemoveRepresentation("Binary labelmap")

    labels, structures = read_segmentation(segmentationFile(node, tmp_path / "out.seg.nrrd"))

    assert set(np.unique(sitk.GetArrayViewFromImage(labels))) == {0, PROSTATE.value}
    assert [s.name for s in structures] == ["Prostate", "DIL"]


def test_surfaces_are_filled_on_the_grid_of_the_image(node, tmp_path):
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")

    labels, structures = read_segmentation(segmentationFile(node, tmp_path / "out.seg.nrrd"))

    assert [s.name for s in structures] == ["Prostate", "DIL"]
    counts = np.bincount(sitk.GetArrayViewFromImage(labels).ravel())
    assert counts[PROSTATE.value] == pytest.approx(6 * 8 * 9 - 18, rel=0.2)


def _without_segments(_node):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "leer")


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda node: None, "out.seg.nrrd", "No segmentation is chosen"),
        (lambda node: node, "out.nrrd", "must end in .seg.nrrd"),
        (lambda node: node, "nowhere/out.seg.nrrd", "does not exist"),
        (_without_segments, "out.seg.nrrd", "'leer' has no segments"),
    ],
    ids=["none", "another ending", "no folder", "no segments"],
)
def test_what_cannot_be_written_is_a_sentence(node, tmp_path, make, name, message):
    with pytest.raises(ProstateXferError, match=message):
        segmentationFile(make(node), tmp_path / name)
