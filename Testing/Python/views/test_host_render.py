# SPDX-License-Identifier: Apache-2.0
"""The views of the host: they draw the scene, and know where in the picture a point of the patient lies."""

import numpy as np
import pytest
import slicer
import vtk

from slicer_host import render

_LESION_IJK, _RADIUS_VOXELS = (40, 22, 10), 4


@pytest.fixture
def ijk_to_ras(t2w_volume) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    t2w_volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.fixture
def lesion_ras(ijk_to_ras):
    return (ijk_to_ras @ [*_LESION_IJK, 1])[:3]


@pytest.fixture
def segmentation(t2w_volume, ijk_to_ras):
    """A red ball far from the middle of the image."""
    shape = slicer.util.arrayFromVolume(t2w_volume).shape
    k, j, i = np.mgrid[: shape[0], : shape[1], : shape[2]]
    distance = np.sqrt(sum((a - b) ** 2 for a, b in zip((i, j, 2 * k), _LESION_IJK * np.array((1, 1, 2)), strict=True)))
    labels = slicer.util.addVolumeFromArray(
        (distance < _RADIUS_VOXELS).astype(np.uint8), ijk_to_ras, nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "ball")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(t2w_volume)
    ids = vtk.vtkStringArray()
    ids.InsertNextValue("DIL")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node, ids)
    slicer.mrmlScene.RemoveNode(labels)
    node.GetSegmentation().GetSegment("DIL").SetColor(1, 0, 0)
    return node


def _center_of_red(picture) -> tuple[float, float]:
    red = (picture[..., 0] > 100) & (picture[..., 1] < 0.6 * picture[..., 0])
    assert red.any()
    return tuple(np.argwhere(red).mean(axis=0))


def test_a_slice_shows_a_segment_where_it_is(t2w_volume, segmentation, lesion_ras):
    slicer.util.setSliceViewerLayers(background=t2w_volume)
    slicer.modules.markups.logic().JumpSlicesToLocation(*lesion_ras, False)
    with render.sliceView("Red") as view:
        picture = view.picture()
        assert picture.shape == (300, 400, 3)
        assert np.ptp(picture[..., 1]) > 100  # the image itself
        assert _center_of_red(picture) == pytest.approx(view.pixelOf(lesion_ras), abs=3)


def test_a_3d_view_shows_the_surface_where_it_is(segmentation, lesion_ras, tmp_path):
    segmentation.CreateClosedSurfaceRepresentation()
    with render.threeDView() as view:
        assert _center_of_red(view.picture()) == pytest.approx(view.pixelOf(lesion_ras), abs=4)
        view.save(tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes().startswith(b"\x89PNG")
