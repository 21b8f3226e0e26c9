# SPDX-License-Identifier: Apache-2.0
"""Volume nodes and images: voxels stay where they are in the patient, on any grid and under any linear transform."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from made_images.grids import OBLIQUE

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferSlicer.scene.volumes import imageOfVolume, volumeOfImage

_DIRECTIONS = {
    "straight": np.eye(3),
    "double oblique": OBLIQUE,
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "left-handed and oblique": OBLIQUE @ np.diag([1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}
_BRIGHTEST_XYZ = (2, 6, 3)


@pytest.fixture(params=list(_DIRECTIONS))
def image(request) -> sitk.Image:
    """Anisotropic, off centre, with one voxel brighter than all others."""
    return _image(_DIRECTIONS[request.param])


def _image(direction=OBLIQUE, dtype=np.int16) -> sitk.Image:
    voxels = np.random.default_rng(1).integers(0, 100, (7, 9, 8)).astype(dtype)
    voxels[_BRIGHTEST_XYZ[::-1]] = 120
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.53125, 0.7, 3.3))
    image.SetOrigin((-101.3, 23.7, 1 / 3))
    image.SetDirection(np.ravel(direction).tolist())
    return image


def _brightest_lps(image: sitk.Image) -> np.ndarray:
    index = np.unravel_index(np.argmax(sitk.GetArrayViewFromImage(image)), image.GetSize()[::-1])
    return np.array(image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]]))


def _under(node, *rows):
    """The node under a new linear transform whose matrix has these three rows of four numbers."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Übung")
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, value)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_a_volume_comes_back_bit_for_bit_on_any_grid(scene, image):
    back = imageOfVolume(volumeOfImage(image, "T2 größer"))

    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    assert back.GetPixelID() == image.GetPixelID()
    assert (back.GetSpacing(), back.GetOrigin(), back.GetDirection()) == (
        image.GetSpacing(),
        image.GetOrigin(),
        image.GetDirection(),
    )


def test_a_voxel_lies_in_slicer_where_it_lies_in_the_patient(scene, image):
    node = volumeOfImage(image, "T2")
    ijk_to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(ijk_to_ras)

    ras = np.array(ijk_to_ras.MultiplyPoint((*_BRIGHTEST_XYZ, 1)))[:3]

    np.testing.assert_allclose(ras * (-1, -1, 1), _brightest_lps(image), atol=1e-9)
    assert node.GetImageData().GetScalarComponentAsDouble(*_BRIGHTEST_XYZ, 0) == 120


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_every_pixel_type_comes_back_as_it_was(scene, name):
    image = _image(dtype=np.dtype(name))

    back = imageOfVolume(volumeOfImage(image, name))

    assert back.GetPixelID() == image.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


def test_the_name_is_kept_and_there_is_something_to_display_it(scene):
    node = volumeOfImage(_image(), "Простата ünïcode")

    assert node.GetName() == "Простата ünïcode"
    assert node.GetScene() is scene
    assert node.GetDisplayNode() is not None


def test_the_image_is_a_copy(scene):
    node = volumeOfImage(_image(), "T2")
    image = imageOfVolume(node)

    node.GetImageData().GetPointData().GetScalars().Fill(0)
    scene.RemoveNode(node)

    assert sitk.GetArrayViewFromImage(image).max() == 120


def test_the_node_does_not_look_into_the_image(scene):
    image = _image()
    node = volumeOfImage(image, "T2")

    image[_BRIGHTEST_XYZ] = 0

    assert node.GetImageData().GetScalarComponentAsDouble(*_BRIGHTEST_XYZ, 0) == 120


def test_a_file_reads_the_same_through_slicer_and_through_the_library(scene, image, tmp_path):
    # Slicer turns left-handed files around while reading; the patient must not notice.
    sitk.WriteImage(image, str(tmp_path / "t2.nrrd"))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / "t2.nrrd"))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2")
    assert storage.ReadData(node)

    back = imageOfVolume(node)

    np.testing.assert_allclose(_brightest_lps(back), _brightest_lps(image), atol=1e-6)
    check_image(sitk.Resample(back, image), "resampled image")
    assert np.array_equal(
        sitk.GetArrayFromImage(sitk.Resample(back, image, sitk.Transform(), sitk.sitkNearestNeighbor)),
        sitk.GetArrayFromImage(image),
    )


def test_a_rotation_above_the_volume_moves_the_image_with_it(scene, image):
    node = volumeOfImage(image, "T2")
    _under(node, (0, -1, 0, 10), (1, 0, 0, -20), (0, 0, 1, 5))

    left, posterior, superior = _brightest_lps(image)
    right, anterior = -left, -posterior

    # By hand: RAS (r, a, s) goes to (-a + 10, r - 20, s + 5).
    expected_lps = (-(-anterior + 10), -(right - 20), superior + 5)
    np.testing.assert_allclose(_brightest_lps(imageOfVolume(node)), expected_lps, atol=1e-9)


def test_two_transforms_above_each_other_both_count(scene):
    image = _image()
    node = volumeOfImage(image, "T2")
    inner = _under(node, (1, 0, 0, 3), (0, 1, 0, 0), (0, 0, 1, 0))
    outer = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(2, 3, 7)
    outer.SetMatrixTransformToParent(matrix)
    inner.SetAndObserveTransformNodeID(outer.GetID())

    moved = _brightest_lps(imageOfVolume(node)) - _brightest_lps(image)

    np.testing.assert_allclose(moved, (-3, 0, 7), atol=1e-9)


def test_a_scaling_along_the_voxel_axes_changes_the_spacing(scene):
    node = volumeOfImage(_image(np.eye(3)), "T2")
    _under(node, (2, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0.5, 0))

    image = imageOfVolume(node)

    np.testing.assert_allclose(image.GetSpacing(), (2 * 0.53125, 0.7, 3.3 / 2))
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-12)


def test_a_mirror_makes_the_image_left_handed_and_nothing_else(scene):
    image = _image(np.eye(3))
    node = volumeOfImage(image, "T2")
    _under(node, (-1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))

    mirrored = imageOfVolume(node)

    assert np.linalg.det(np.reshape(mirrored.GetDirection(), (3, 3))) < 0
    np.testing.assert_allclose(_brightest_lps(mirrored), _brightest_lps(image) * (-1, 1, 1), atol=1e-9)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(((1, 0.3, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)), id="shear"),
        pytest.param(((3, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)), id="scaling across the voxel axes"),
        pytest.param(((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0)), id="projection"),
    ],
)
def test_a_transform_that_spoils_right_angles_is_refused(scene, rows):
    node = volumeOfImage(_image(), "T2")
    _under(node, *rows)

    with pytest.raises(ProstateXferError, match="ADC map 'T2'.*right angles.*Übung.*resample"):
        imageOfVolume(node, "ADC map")


def test_a_tilted_gantry_is_refused_without_blaming_a_transform(scene):
    node = volumeOfImage(_image(np.eye(3)), "CT")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(1, 2, 0.2)
    node.SetIJKToRASMatrix(matrix)

    with pytest.raises(ProstateXferError, match="tilted gantry"):
        imageOfVolume(node, "CT")


def test_a_warp_is_refused_with_what_to_do(scene):
    node = volumeOfImage(_image(), "T2")
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)):
        points.InsertNextPoint(point)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    warp.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(warp.GetID())

    with pytest.raises(ProstateXferError, match="non-linear transform 'Warp'; harden"):
        imageOfVolume(node)


def test_no_node_no_voxels_and_colours_are_refused(scene):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "leer")
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    pixels = vtk.vtkImageData()
    pixels.SetDimensions(4, 4, 1)
    pixels.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colour.SetAndObserveImageData(pixels)

    with pytest.raises(ProstateXferError, match="No ADC map is chosen"):
        imageOfVolume(None, "ADC map")
    with pytest.raises(ProstateXferError, match="'leer' has no voxels"):
        imageOfVolume(empty)
    with pytest.raises(ProstateXferError, match="'photo' holds 3 values in each voxel"):
        imageOfVolume(colour)


@pytest.mark.parametrize("image", [sitk.Image(4, 4, sitk.sitkInt16), sitk.Image(4, 4, 4, sitk.sitkVectorUInt8)])
def test_an_image_that_is_no_volume_makes_no_node(scene, image):
    nodes = scene.GetNumberOfNodes()

    with pytest.raises(ProstateXferError, match="'picture' is not one 3-D grey-value volume"):
        volumeOfImage(image, "picture")

    assert scene.GetNumberOfNodes() == nodes


def test_voxels_that_start_at_another_index_keep_their_place(scene):
    image = _image()
    node = volumeOfImage(image, "T2")
    crop = vtk.vtkExtractVOI()
    crop.SetInputData(node.GetImageData())
    crop.SetVOI(1, 6, 2, 8, 2, 5)
    crop.Update()
    assert crop.GetOutput().GetExtent() == (1, 6, 2, 8, 2, 5)
    node.SetAndObserveImageData(crop.GetOutput())

    back = imageOfVolume(node)

    assert back.GetSize() == (6, 7, 4)
    np.testing.assert_allclose(_brightest_lps(back), _brightest_lps(image), atol=1e-9)
