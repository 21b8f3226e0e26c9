# SPDX-License-Identifier: Apache-2.0
"""A copy of a segmentation outside the scene, in the world and as label maps, for whoever must read or write it."""

import numpy as np
import slicer
import vtk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferSlicer.scene.transforms import (
    arrayOfMatrix,
    axesAtRightAngles,
    linearTransformToWorld,
    matrixOfArray,
)

_WHAT = "segmentation"


def worldCopy(node, surfaceGrid: Grid | None = None):
    """A vtkMRMLSegmentationNode that is in no scene and under no transform, with binary label maps as its source.

    Segments, their order, ids, names, colours and tags are those of `node`, which is not touched: not even its
    modification time changes, as it would if Slicer wrote it to a file. A linear parent transform is applied. A
    segmentation drawn as surfaces is filled, on `surfaceGrid` or else on its own reference geometry.

    Raises:
        ProstateXferError: no segmentation, a non-linear or shearing transform, or surfaces that cannot be filled.
    """
    if node is None or node.GetSegmentation() is None:
        raise ProstateXferError("No segmentation is chosen; choose one.")
    toWorld = linearTransformToWorld(node, _WHAT)
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetName(node.GetName())
    copy.GetSegmentation().DeepCopy(node.GetSegmentation())
    if toWorld is not None:
        copy.ApplyTransformMatrix(matrixOfArray(toWorld))
    _fillSurfaces(copy, surfaceGrid)
    _refuseShear(copy)
    _giveEmptySegmentsAnImage(copy)
    return copy


def segmentIds(node) -> tuple[str, ...]:
    """The ids in the order of the segment list."""
    return tuple(node.GetSegmentation().GetSegmentIDs())


def setReferenceGrid(node, grid: Grid) -> None:
    """Make the grid the reference geometry of a segmentation node that is under no transform."""
    extent = vtk.vtkImageData()
    extent.SetDimensions(grid.size_xyz)
    text = slicer.vtkSegmentationConverter.SerializeImageGeometry(_indexToRas(grid), extent)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    node.GetSegmentation().SetConversionParameter(name, text)


def _fillSurfaces(copy, grid: Grid | None) -> None:
    """Make binary label maps the source, from whatever it was."""
    segmentation = copy.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    source = segmentation.GetSourceRepresentationName()
    if source == binary or not segmentation.GetNumberOfSegments():
        return
    if grid is not None:
        setReferenceGrid(copy, grid)
    # Always from the source: label maps that are there already may be older than the last edit.
    if not segmentation.CreateRepresentation(binary, True):
        raise ProstateXferError(
            f"The segmentation '{copy.GetName()}' is stored as '{source}' and could not be turned into label maps; "
            f"make a binary labelmap of it in the Segmentations module (Representations)."
        )
    segmentation.SetSourceRepresentationName(binary)


def _refuseShear(copy) -> None:
    """Raise where the transform has left a label map with axes that no image header can express."""
    for segmentId in segmentIds(copy):
        labelmap = copy.GetBinaryLabelmapInternalRepresentation(segmentId)
        if labelmap is None or labelmap.IsEmpty():
            continue
        matrix = vtk.vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(matrix)
        if not axesAtRightAngles(arrayOfMatrix(matrix)[:3, :3]):
            raise ProstateXferError(
                f"The transform of the segmentation '{copy.GetName()}' shears it or flattens it; harden the transform "
                "(right-click in the Data module) or use one that only moves and rotates."
            )


def _giveEmptySegmentsAnImage(copy) -> None:
    """Where no segment has a voxel, give them all one empty image: Slicer would write a single voxel otherwise.

    A segment whose image a script has removed gets one, too: Slicer's writer reads from it without looking.
    """
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segments = [copy.GetSegmentation().GetSegment(segmentId) for segmentId in segmentIds(copy)]
    labelmaps = [segment.GetRepresentation(binary) for segment in segments]
    allEmpty = all(labelmap is None or labelmap.IsEmpty() for labelmap in labelmaps)
    reference = copy.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    empty = slicer.vtkOrientedImageData()
    if allEmpty and reference:
        slicer.vtkSegmentationConverter.DeserializeImageGeometry(reference, empty, True, vtk.VTK_UNSIGNED_CHAR, 1)
        slicer.vtkOrientedImageDataResample.FillImage(empty, 0)
    for segment, labelmap in zip(segments, labelmaps, strict=True):
        if labelmap is None or (allEmpty and reference):
            segment.AddRepresentation(binary, empty)


def _indexToRas(grid: Grid):
    """vtkMatrix4x4 from voxel indices to RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = grid.direction_matrix * grid.spacing_xyz
    matrix[:3, 3] = grid.origin_lps
    matrix[:2] *= -1
    return matrixOfArray(matrix)
