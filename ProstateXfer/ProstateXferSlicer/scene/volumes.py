# SPDX-License-Identifier: Apache-2.0
"""Volume nodes to images and back, through physical space: nothing is resampled, nothing is flipped."""

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.scene.transforms import arrayOfMatrix, axesAtRightAngles, linearTransformToWorld, matrixOfArray

# Slicer's world is RAS, that of images LPS; the same matrix leads either way.
_LPS_RAS = np.diag([-1.0, -1.0, 1.0])


class _Geometry(NamedTuple):
    """Spacing (3,) mm, centre of voxel 0 0 0 (3,) RAS mm, unit vectors along i, j, k as columns (3, 3) in RAS."""

    spacing: np.ndarray
    originRas: np.ndarray
    directionsRas: np.ndarray


def imageOfVolume(node, what: str = "T2w image") -> sitk.Image:
    """The volume as Slicer's views show it: a copy of its voxels, placed in the world (LPS mm).

    A linear parent transform moves the image, as long as its axes stay at right angles. Left-handed axes stay
    left-handed. `what` names the image in error messages.

    Raises:
        ProstateXferError: no image, several values a voxel, or a transform that no image header can express.
    """
    imageData = _imageData(node, what)
    spacing, originRas, directionsRas = _worldGeometry(node, what)
    firstIndex = np.array(imageData.GetExtent()[::2])
    if firstIndex.any():
        # A cropped vtkImageData may start at another index than 0; an image of the library always starts at 0.
        originRas = originRas + directionsRas @ (spacing * firstIndex)
    scalars = imageData.GetPointData().GetScalars()
    image = sitk.GetImageFromArray(vtk_to_numpy(scalars).reshape(imageData.GetDimensions()[::-1]))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((_LPS_RAS @ originRas).tolist())
    image.SetDirection((_LPS_RAS @ directionsRas).ravel().tolist())
    return image


def volumeOfImage(image: sitk.Image, name: str):
    """A new scalar volume node of the scene with the image's voxels and exactly its geometry, and a display node.

    Raises:
        ProstateXferError: the image is not one 3-D volume of real numbers.
    """
    voxels = sitk.GetArrayViewFromImage(image)
    if image.GetDimension() != 3 or voxels.ndim != 3 or voxels.dtype.kind not in "iuf":
        raise ProstateXferError(f"The image for '{name}' is not one 3-D grey-value volume; choose another image.")
    imageData = vtk.vtkImageData()
    imageData.SetDimensions(image.GetSize())
    scalars = numpy_to_vtk(voxels.ravel(), deep=True, array_type=get_vtk_array_type(voxels.dtype))
    imageData.GetPointData().SetScalars(scalars)
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    # Not by SetIJKToRASMatrix, which would find spacing and directions anew and lose their last digits.
    node.SetSpacing(image.GetSpacing())
    node.SetOrigin((_LPS_RAS @ image.GetOrigin()).tolist())
    directions = np.eye(4)
    directions[:3, :3] = _LPS_RAS @ np.reshape(image.GetDirection(), (3, 3))
    node.SetIJKToRASDirectionMatrix(matrixOfArray(directions))
    node.SetAndObserveImageData(imageData)
    node = slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def _imageData(node, what: str):
    """The node's vtkImageData, which has one value in each of one or more voxels."""
    if node is None:
        raise ProstateXferError(f"No {what} is chosen; choose a volume.")
    imageData = node.GetImageData()
    if imageData is None or imageData.GetNumberOfPoints() == 0 or imageData.GetPointData().GetScalars() is None:
        raise ProstateXferError(f"The {what} '{node.GetName()}' has no voxels; load it again or choose another volume.")
    components = imageData.GetNumberOfScalarComponents()
    if components != 1:
        raise ProstateXferError(
            f"The {what} '{node.GetName()}' holds {components} values in each voxel (colour, vectors or several "
            "volumes); choose a volume with one grey value in each."
        )
    return imageData


def _worldGeometry(node, what: str) -> _Geometry:
    """Where the voxels are in the world; raises where their axes are not at right angles."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(matrix)
    geometry = _Geometry(np.array(node.GetSpacing()), np.array(node.GetOrigin()), arrayOfMatrix(matrix)[:3, :3])
    toWorld = linearTransformToWorld(node, what)
    if toWorld is not None:
        geometry = _transformed(geometry, toWorld)
    if not axesAtRightAngles(geometry.directionsRas):
        cause = "a tilted gantry?" if toWorld is None else f"transform '{node.GetParentTransformNode().GetName()}'"
        raise ProstateXferError(
            f"The voxel axes of the {what} '{node.GetName()}' are not at right angles ({cause}); resample it to a "
            "straight grid, for instance with the module Resample Scalar/Vector/DWI Volume."
        )
    return geometry


def _transformed(geometry: _Geometry, toWorldRas: np.ndarray) -> _Geometry:
    """The geometry under a (4, 4) matrix; directions are NaN where that has no inverse."""
    steps = toWorldRas[:3, :3] @ (geometry.directionsRas * geometry.spacing)
    spacing = np.linalg.norm(steps, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _Geometry(spacing, toWorldRas[:3, :3] @ geometry.originRas + toWorldRas[:3, 3], steps / spacing)
