# SPDX-License-Identifier: Apache-2.0
"""A segmentation file of the library becomes a node: nothing of its meaning is lost, nothing else is touched."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from made_images.gland import gland_with_lesion
from made_images.grids import OBLIQUE

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, generic_structure
from ProstateXferSlicer.scene.segmentations import (
    createClosedSurface,
    loadSegmentation,
    removeClosedSurface,
)
from ProstateXferSlicer.scene.volumes import volumeOfImage

_DIRECTIONS = {"oblique": OBLIQUE, "left-handed and oblique": OBLIQUE @ np.diag([1.0, 1.0, -1.0])}


@pytest.fixture
def loaded(scene, tmp_path):
    """A segmentation node with gland and lesion, and its volume."""
    labels = gland_with_lesion()
    volume = volumeOfImage(sitk.Cast(labels, sitk.sitkInt16), "T2 größer")
    path = write_segmentation(labels, (PROSTATE, DIL), tmp_path / "Läsion.seg.nrrd")
    return loadSegmentation(path, "T2 größer segmentation", volume), volume


def _tag(segment) -> str:
    text = vtk.mutable("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), text)
    return str(text)


def test_names_ids_colours_values_and_codes_are_those_of_the_file(loaded):
    segmentation = loaded[0].GetSegmentation()

    assert tuple(segmentation.GetSegmentIDs()) == ("Prostate", "DIL")
    for structure in (PROSTATE, DIL):
        segment = segmentation.GetSegment(structure.segment_id)
        assert segment.GetName() == structure.name
        assert segment.GetLabelValue() == structure.value
        np.testing.assert_allclose(np.multiply(segment.GetColor(), 255), structure.color_rgb, atol=1e-4)
        assert _tag(segment) == structure.terminology


@pytest.mark.parametrize("direction", list(_DIRECTIONS))
def test_every_voxel_of_a_segment_lies_where_it_lies_in_the_patient(scene, tmp_path, direction):
    labels = gland_with_lesion(_DIRECTIONS[direction])
    path = write_segmentation(labels, (PROSTATE, DIL), tmp_path / "s.seg.nrrd")

    node = loadSegmentation(path, "s", None)

    lesion = node.GetBinaryLabelmapInternalRepresentation("DIL")
    ijk_to_ras = vtk.vtkMatrix4x4()
    lesion.GetImageToWorldMatrix(ijk_to_ras)
    extent = lesion.GetExtent()
    found = {
        tuple(np.round(np.array(ijk_to_ras.MultiplyPoint((i, j, k, 1)))[:3] * (-1, -1, 1), 6))
        for i in range(extent[0], extent[1] + 1)
        for j in range(extent[2], extent[3] + 1)
        for k in range(extent[4], extent[5] + 1)
        if lesion.GetScalarComponentAsDouble(i, j, k, 0) == DIL.value
    }
    expected = {
        tuple(np.round(labels.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]]), 6))
        for index in np.argwhere(sitk.GetArrayViewFromImage(labels) == DIL.value)
    }
    assert found == expected


def test_the_gland_contains_the_lesion_in_a_layer_of_its_own(loaded):
    node = loaded[0]

    gland = node.GetBinaryLabelmapInternalRepresentation("Prostate")

    assert node.GetSegmentation().GetNumberOfLayers() == 2
    assert gland.GetScalarComponentAsDouble(6, 6, 3, 0) == PROSTATE.value  # amid the lesion


def test_gaps_in_the_label_values_do_no_harm(scene, tmp_path):
    structures = (PERIPHERAL_ZONE, generic_structure(7, "Näme mit Lücke"))
    path = write_segmentation(gland_with_lesion(gland=3, lesion=7), structures, tmp_path / "s.seg.nrrd")

    segmentation = loadSegmentation(path, "s", None).GetSegmentation()

    segments = [segmentation.GetSegment(i) for i in segmentation.GetSegmentIDs()]
    values = {segment.GetName(): segment.GetLabelValue() for segment in segments}
    assert values == {"Peripheral zone": 3, "Näme mit Lücke": 7}


def test_the_volume_is_the_reference_from_the_start(loaded):
    node, volume = loaded
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()

    assert node.GetNodeReference(role) is volume
    geometry = slicer.vtkOrientedImageData()
    text = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
    expected, found = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(expected)
    geometry.GetImageToWorldMatrix(found)
    np.testing.assert_allclose(
        [found.GetElement(*divmod(n, 4)) for n in range(16)], [expected.GetElement(*divmod(n, 4)) for n in range(16)]
    )
    assert geometry.GetExtent() == volume.GetImageData().GetExtent()


def test_the_result_of_a_moved_volume_is_not_moved_twice(scene, tmp_path):
    volume = volumeOfImage(sitk.Cast(gland_with_lesion(), sitk.sitkInt16), "T2")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    in_world = gland_with_lesion()
    in_world.SetOrigin((in_world.GetOrigin()[0] - 100, *in_world.GetOrigin()[1:]))
    path = write_segmentation(in_world, (PROSTATE, DIL), tmp_path / "s.seg.nrrd")

    node = loadSegmentation(path, "s", volume)

    assert node.GetParentTransformNode() is None
    geometry = slicer.vtkOrientedImageData()
    text = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, False)
    np.testing.assert_allclose(np.array(geometry.GetOrigin()) * (-1, -1, 1), in_world.GetOrigin(), atol=1e-9)


def test_the_scene_does_not_remember_the_temporary_file(loaded, scene):
    node, _ = loaded

    assert node.GetStorageNode() is None
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationStorageNode")


def test_only_the_segmentation_and_its_display_come_into_the_scene(scene, tmp_path):
    labels = gland_with_lesion()
    volume = volumeOfImage(sitk.Cast(labels, sitk.sitkInt16), "T2")
    path = write_segmentation(labels, (PROSTATE, DIL), tmp_path / "s.seg.nrrd")
    before = {node.GetID() for node in slicer.util.getNodes("*", useLists=True).values() for node in node}

    loadSegmentation(path, "s", volume)

    after = {node.GetID() for node in slicer.util.getNodes("*", useLists=True).values() for node in node}
    assert sorted(nodeId.rstrip("0123456789") for nodeId in after - before) == [
        "vtkMRMLSegmentationDisplayNode",
        "vtkMRMLSegmentationNode",
    ]


def test_the_lesion_shows_through_the_gland_and_the_image_through_both(loaded):
    display = loaded[0].GetDisplayNode()

    assert display.GetSegmentOpacity3D("Prostate") < 0.5
    assert display.GetSegmentOpacity3D("DIL") == 1
    assert display.GetOpacity2DFill() < 0.3
    assert display.GetOpacity2DOutline() == 1


def test_a_surface_can_be_made_and_taken_away_again(loaded):
    node, _ = loaded

    createClosedSurface(node)
    mass = vtk.vtkMassProperties()
    mass.SetInputData(node.GetClosedSurfaceInternalRepresentation("Prostate"))
    assert mass.GetVolume() == pytest.approx(6 * 8 * 9 * 0.5 * 0.7 * 3, rel=0.1)

    removeClosedSurface(node)
    assert node.GetClosedSurfaceInternalRepresentation("Prostate") is None
    removeClosedSurface(node)


def test_a_left_handed_surface_is_as_large_as_a_right_handed_one(scene, tmp_path):
    volumes = []
    for direction in _DIRECTIONS.values():
        path = write_segmentation(gland_with_lesion(direction), (PROSTATE, DIL), tmp_path / "s.seg.nrrd")
        node = loadSegmentation(path, "s", None)
        createClosedSurface(node)
        mass = vtk.vtkMassProperties()
        mass.SetInputData(node.GetClosedSurfaceInternalRepresentation("Prostate"))
        volumes.append(mass.GetVolume())

    assert volumes[0] == pytest.approx(volumes[1], rel=1e-3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "damaged"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.unlink(), "no file"),
    ],
    ids=["half a header", "voxels missing", "empty", "gone"],
)
def test_a_damaged_file_is_a_sentence_and_leaves_the_scene_alone(scene, tmp_path, damage, message):
    path = write_segmentation(gland_with_lesion(), (PROSTATE, DIL), tmp_path / "s.seg.nrrd")
    damage(path)
    nodes = scene.GetNumberOfNodes()

    with pytest.raises(ProstateXferError, match=message):
        loadSegmentation(path, "s", None)

    assert scene.GetNumberOfNodes() == nodes


def test_all_of_it_survives_a_saved_scene(loaded, scene, tmp_path):
    node, _ = loaded
    before = [node.GetSegmentation().GetSegment(i) for i in ("Prostate", "DIL")]
    expected = [(s.GetName(), s.GetColor(), _tag(s)) for s in before]
    opacity = node.GetDisplayNode().GetSegmentOpacity3D("Prostate")

    assert scene.WriteToMRB(str(tmp_path / "Größe.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "Größe.mrb"), True)

    back = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    segments = [back.GetSegmentation().GetSegment(i) for i in ("Prostate", "DIL")]
    assert [(s.GetName(), s.GetColor(), _tag(s)) for s in segments] == [
        (name, pytest.approx(color, abs=1e-5), tag) for name, color, tag in expected
    ]
    assert back.GetName() == "T2 größer segmentation"
    assert back.GetSegmentation().GetNumberOfLayers() == 2
    assert back.GetDisplayNode().GetSegmentOpacity3D("Prostate") == pytest.approx(opacity)
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert back.GetNodeReference(role).GetName() == "T2 größer"
