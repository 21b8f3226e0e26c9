# SPDX-License-Identifier: Apache-2.0
"""What a person sees in Slicer is what the library measures: after edits, on any grid, under any linear transform."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from made_images.gland import gland_with_lesion
from made_images.grids import OBLIQUE

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.metrics.measure import measure
from ProstateXferSlicer.scene.segmentations import (
    createClosedSurface,
    loadSegmentation,
    segmentationOfNode,
)
from ProstateXferSlicer.scene.volumes import imageOfVolume, volumeOfImage

_DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": OBLIQUE,
    "left-handed and oblique": OBLIQUE @ np.diag([1.0, 1.0, -1.0]),
}
_VOXEL_CM3 = 0.5 * 0.7 * 3 / 1000


@pytest.fixture(params=list(_DIRECTIONS))
def case(scene, tmp_path, request):
    """Labels, the volume they belong to, and the segmentation node made of them."""
    return _case(gland_with_lesion(_DIRECTIONS[request.param]), tmp_path)


@pytest.fixture
def oblique_case(scene, tmp_path):
    return _case(gland_with_lesion(), tmp_path)


def _case(labels, tmp_path):
    volume = volumeOfImage(sitk.Cast(labels, sitk.sitkInt16), "T2")
    path = write_segmentation(labels, (PROSTATE, DIL), tmp_path / "s.seg.nrrd")
    return labels, volume, loadSegmentation(path, "T2 segmentation", volume)


def _edit(node, segment_id, volume, change):
    """Let `change` alter the segment's (k, j, i) array on the volume's grid, as the Segment Editor would."""
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
    change(mask)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)


def _add_box(node, name, volume, box):
    """A new segment in which a person has painted a box of voxels (k, j, i)."""

    def paint(mask):
        mask[box] = 1

    _edit(node, node.GetSegmentation().AddEmptySegment("", name), volume, paint)


def _volumes(node, grid_image) -> dict[str, float]:
    return {row.id: row.volume_cm3 for row in measure(segmentationOfNode(node, grid_image))}


def test_what_was_loaded_comes_back_voxel_for_voxel(case):
    labels, volume, node = case

    found = segmentationOfNode(node, imageOfVolume(volume))

    assert np.array_equal(sitk.GetArrayFromImage(found.labels), sitk.GetArrayFromImage(labels))
    assert Grid.of(found.labels) == Grid.of(labels)
    assert found.structures == (PROSTATE, DIL)


def test_slicer_and_the_library_measure_the_same_phantom_alike(scene, tmp_path):
    study = make_phantom(seed=0).render()
    _, volume, node = _case(study.labels, tmp_path)

    in_slicer = measure(segmentationOfNode(node, imageOfVolume(volume)))

    assert in_slicer == measure(study.labels)
    assert [row.id for row in in_slicer] == ["Prostate", "DIL", "DIL L1", "DIL L2"]


def test_the_centroid_is_the_one_slicers_own_statistics_find(case):
    _, volume, node = case
    rows = {row.id: row for row in measure(segmentationOfNode(node, imageOfVolume(volume)))}

    for segment_id in ("Prostate", "DIL"):
        assert rows[segment_id].centroid_ras == pytest.approx(_centroid_of_slicer(node, segment_id), abs=1e-4)


def _centroid_of_slicer(node, segment_id):
    labelmap = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, labelmap)
    directions = vtk.vtkMatrix4x4()
    labelmap.GetDirectionMatrix(directions)
    statistics = slicer.vtkITKLabelShapeStatistics()
    statistics.SetInputData(labelmap)
    statistics.SetDirections(directions)
    statistics.SetComputeShapeStatistic("Centroid", True)
    statistics.Update()
    return statistics.GetOutput().GetColumnByName("Centroid").GetTuple(0)


def test_an_erased_part_is_gone(case):
    _, volume, node = case
    before = _volumes(node, imageOfVolume(volume))

    def erase_one_slice(mask):
        mask[3] = 0

    _edit(node, "DIL", volume, erase_one_slice)

    after = _volumes(node, imageOfVolume(volume))
    assert before["DIL"] == pytest.approx(18 * _VOXEL_CM3)
    assert after["DIL"] == pytest.approx(9 * _VOXEL_CM3)
    assert after["Prostate"] == pytest.approx(before["Prostate"])  # its own layer still holds the voxels


def test_a_painted_part_is_there(case):
    _, volume, node = case

    def paint(mask):
        mask[9:11, 0:2, 0:2] = 1

    _edit(node, "DIL", volume, paint)

    rows = measure(segmentationOfNode(node, imageOfVolume(volume)))
    assert {row.id: round(row.volume_cm3 / _VOXEL_CM3) for row in rows} == {
        "Prostate": 6 * 8 * 9,
        "DIL": 18 + 8,
        "DIL L1": 18,
        "DIL L2": 8,
    }
    assert {row.id: row.touches_border for row in rows}["DIL L2"]


def test_a_hidden_segment_counts(oblique_case):
    _, volume, node = oblique_case
    node.GetDisplayNode().SetSegmentVisibility("DIL", False)
    node.GetDisplayNode().SetVisibility(False)

    assert _volumes(node, imageOfVolume(volume))["DIL"] == pytest.approx(18 * _VOXEL_CM3)


def test_an_emptied_segment_has_a_row_without_volume(oblique_case):
    _, volume, node = oblique_case
    _edit(node, "DIL", volume, lambda mask: mask.fill(0))

    volumes = _volumes(node, imageOfVolume(volume))

    assert volumes["DIL"] == 0
    assert volumes["Prostate"] == pytest.approx(6 * 8 * 9 * _VOXEL_CM3)


def test_a_removed_segment_has_no_row(oblique_case):
    _, volume, node = oblique_case
    node.GetSegmentation().RemoveSegment("DIL")

    assert list(_volumes(node, imageOfVolume(volume))) == ["Prostate"]


def test_nothing_but_empty_segments_is_measured_as_nothing(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "leer")
    node.GetSegmentation().AddEmptySegment("Prostate", "Prostate")

    found = segmentationOfNode(node, gland_with_lesion())

    assert found.labels.GetSize() == gland_with_lesion().GetSize()
    assert [(row.id, row.volume_cm3) for row in measure(found)] == [("Prostate", 0)]


def test_a_segmentation_without_segments_has_no_rows(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "leer")

    found = segmentationOfNode(node, gland_with_lesion())

    assert found.structures == ()
    assert Grid.of(found.labels) == Grid.of(gland_with_lesion())
    assert measure(found) == []


def test_a_new_segment_of_any_name_has_a_row_and_keeps_the_others(oblique_case):
    _, volume, node = oblique_case
    before = _volumes(node, imageOfVolume(volume))
    name = "Läsion 2 | links; ~^\u200b"

    _add_box(node, name, volume, np.s_[9:11, 1:3, 1:4])

    after = _volumes(node, imageOfVolume(volume))
    assert after.pop(name) == pytest.approx(12 * _VOXEL_CM3)
    assert after == pytest.approx(before)


def test_a_second_lesion_drawn_over_the_gland_is_taken_from_neither(oblique_case):
    # It overlaps the gland and lies in a layer where the label value is used already.
    _, volume, node = oblique_case

    _add_box(node, "DIL 2", volume, np.s_[6, 4:8, 4:8])

    volumes = _volumes(node, imageOfVolume(volume))
    assert volumes["DIL 2"] == pytest.approx(16 * _VOXEL_CM3)
    assert volumes["Prostate"] == pytest.approx(6 * 8 * 9 * _VOXEL_CM3)
    assert volumes["DIL"] == pytest.approx(18 * _VOXEL_CM3)


def test_a_renamed_segment_is_measured_under_its_new_name(oblique_case):
    _, volume, node = oblique_case
    node.GetSegmentation().GetSegment("DIL").SetName("Index-Läsion")

    rows = {row.id: row for row in measure(segmentationOfNode(node, imageOfVolume(volume)))}

    assert rows["Index-Läsion"].volume_cm3 == pytest.approx(18 * _VOXEL_CM3)
    assert rows["Index-Läsion"].part_of == "Prostate"
    assert "Index-Läsion L1" in rows


def test_two_segments_of_one_name_are_told_apart(oblique_case):
    _, volume, node = oblique_case

    _add_box(node, "DIL", volume, np.s_[9, 1:3, 1:4])

    volumes = _volumes(node, imageOfVolume(volume))
    assert volumes["DIL"] == pytest.approx(18 * _VOXEL_CM3)
    assert volumes["DIL (2)"] == pytest.approx(6 * _VOXEL_CM3)


def test_segments_that_slicer_has_cropped_lie_where_they_were(case):
    labels, volume, node = case
    node.GetSegmentation().SeparateSegmentLabelmap("DIL")
    for segment_id in ("Prostate", "DIL"):
        labelmap = node.GetBinaryLabelmapInternalRepresentation(segment_id)
        extent = [0] * 6
        slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(labelmap, extent)
        slicer.vtkOrientedImageDataResample.CopyImage(labelmap, labelmap, extent)
        assert labelmap.GetExtent() != (0, 15, 0, 13, 0, 11)

    found = segmentationOfNode(node, imageOfVolume(volume))

    assert np.array_equal(sitk.GetArrayFromImage(found.labels), sitk.GetArrayFromImage(labels))


def test_without_a_reference_geometry_nothing_moves(case):
    labels, volume, node = case
    node.GetSegmentation().SetConversionParameter("Reference image geometry", "")

    found = segmentationOfNode(node, imageOfVolume(volume))

    assert np.array_equal(sitk.GetArrayFromImage(found.labels), sitk.GetArrayFromImage(labels))


def test_on_another_grid_the_structures_keep_their_place_and_size(case):
    labels, _, node = case
    finer = sitk.Image(60, 60, 80, sitk.sitkInt16)
    finer.SetSpacing((0.29, 0.33, 0.57))  # no voxel centre lies on a border
    centre = labels.TransformContinuousIndexToPhysicalPoint([7.0, 6.5, 4.5])
    finer.SetOrigin([c - s * n / 2 for c, s, n in zip(centre, finer.GetSpacing(), finer.GetSize(), strict=True)])

    here = {row.id: row for row in measure(labels)}
    there = {row.id: row for row in measure(segmentationOfNode(node, finer))}

    assert there["Prostate"].volume_cm3 == pytest.approx(here["Prostate"].volume_cm3, rel=0.05)
    assert there["Prostate"].centroid_lps == pytest.approx(here["Prostate"].centroid_lps, abs=0.2)
    assert there["DIL"].centroid_lps == pytest.approx(here["DIL"].centroid_lps, abs=0.2)


def test_a_transform_above_the_segmentation_moves_it_with_the_view(case, scene):
    labels, _, node = case
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Drehung")
    matrix = vtk.vtkMatrix4x4()
    for position, value in zip(range(12), (0, -1, 0, 10, 1, 0, 0, -20, 0, 0, 1, 5), strict=True):
        matrix.SetElement(*divmod(position, 4), value)
    transform.SetMatrixTransformToParent(matrix)
    right, anterior, superior = {row.id: row for row in measure(labels)}["DIL"].centroid_ras
    node.SetAndObserveTransformNodeID(transform.GetID())
    turned = sitk.Image(labels)
    turned.SetDirection(
        (np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ np.reshape(labels.GetDirection(), (3, 3))).ravel().tolist()
    )
    left, posterior, up = labels.GetOrigin()
    turned.SetOrigin((-posterior - 10, left + 20, up + 5))

    found = segmentationOfNode(node, turned)

    rows = {row.id: row for row in measure(found)}
    assert rows["DIL"].centroid_ras == pytest.approx((-anterior + 10, right - 20, superior + 5), abs=1e-6)
    assert np.array_equal(sitk.GetArrayFromImage(found.labels), sitk.GetArrayFromImage(labels))


def test_a_shearing_transform_above_the_segmentation_is_refused(oblique_case, scene):
    _, volume, node = oblique_case
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Scherung")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 1, 0.3)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())

    with pytest.raises(ProstateXferError, match="shears"):
        segmentationOfNode(node, imageOfVolume(volume))


def test_a_segmentation_made_of_surfaces_is_filled(case):
    labels, volume, node = case
    createClosedSurface(node)
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.RemoveBinaryLabelmapRepresentation()

    found = segmentationOfNode(node, imageOfVolume(volume))

    here, there = ({row.id: row for row in measure(s)} for s in (labels, found))
    assert there["Prostate"].volume_cm3 == pytest.approx(here["Prostate"].volume_cm3, rel=0.15)
    assert there["Prostate"].centroid_lps == pytest.approx(here["Prostate"].centroid_lps, abs=0.5)
    assert node.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_measuring_changes_neither_the_node_nor_the_scene(oblique_case, scene):
    _, volume, node = oblique_case
    state = (node.GetMTime(), node.GetSegmentation().GetMTime(), node.GetModifiedSinceRead(), scene.GetNumberOfNodes())

    segmentationOfNode(node, imageOfVolume(volume))

    after = (node.GetMTime(), node.GetSegmentation().GetMTime(), node.GetModifiedSinceRead(), scene.GetNumberOfNodes())
    assert after == state
