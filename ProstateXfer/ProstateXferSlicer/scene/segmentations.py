# SPDX-License-Identifier: Apache-2.0
"""Segmentation nodes from the library's files, and back to files and label maps with whatever a person has edited."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import SimpleITK as sitk
import slicer

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX, read_segmentation
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.metrics.naming import is_gland
from ProstateXferSlicer.scene.segmentation_copy import segmentIds, worldCopy

_FILL_OPACITY = 0.2
_OUTLINE_OPACITY = 1.0
_OUTLINE_PIXELS = 2
# The lesion inside must be seen through the gland.
_WHOLE_OPACITY_3D = 0.35


def loadSegmentation(path: Path | str, name: str, referenceVolume):
    """A new segmentation node of the scene with the segments of a `.seg.nrrd` file, as the file describes them.

    The node lies in the world: what the library computed on was there, too, so a parent transform of
    `referenceVolume` is not applied again. The volume's geometry becomes the reference for edits and for export. The
    node does not remember the file, which may be temporary: Slicer asks to save it as it does for new nodes.

    Raises:
        ProstateXferError: the file cannot be read; the scene is then as it was.
    """
    path = Path(path).resolve()
    # Slicer's own reader ends the whole application at a damaged file, so this one looks first.
    _, structures = read_segmentation(path)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    if not storage.ReadData(node) or len(segmentIds(node)) < len(structures):
        slicer.mrmlScene.RemoveNode(node)
        raise ProstateXferError(f"Slicer cannot read the segmentation '{path.name}'; save or export it again.")
    node.CreateDefaultDisplayNodes()
    _setDisplay(node.GetDisplayNode(), structures)
    if referenceVolume is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(referenceVolume)
    return node


def segmentationFile(node, path: Path | str) -> Path:
    """Write the segmentation as it is now, edits and hidden segments included, to a `.seg.nrrd` file in the world.

    The node keeps its own file and its own "modified since saved". Returns the path.

    Raises:
        ProstateXferError: no segments, a transform that is not linear, or a file that cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(SEGMENTATION_SUFFIX):
        raise ProstateXferError(f"Cannot write the segmentation '{path.name}'; its name must end in .seg.nrrd.")
    copy = worldCopy(node)
    if not segmentIds(copy):
        raise ProstateXferError(
            f"The segmentation '{node.GetName()}' has no segments; choose another one or add a segment to it."
        )
    with atomic_file(path) as temporary:
        _write(copy, temporary, compress=True)
    return path


def segmentationOfNode(node, gridImage: sitk.Image) -> SimpleNamespace:
    """`labels` (an image) and `structures` of the segmentation as it is now, for `ProstateXferLib.metrics.measure`.

    The labels lie on the grid of `gridImage`, a world image such as `imageOfVolume` returns: exactly where the
    segments already do, otherwise by the nearest voxel. Every segment has a structure, also hidden and empty ones;
    label values and overlaps are settled as `read_segmentation` does it, and of two segments with the same name the
    second is numbered. What lies outside the grid is left out.

    Raises:
        ProstateXferError: no segmentation, or one that cannot be brought into the world or into label maps.
    """
    grid = Grid.of(gridImage)
    copy = worldCopy(node, surfaceGrid=grid)
    if not segmentIds(copy):
        empty = sitk.Image(list(grid.size_xyz), sitk.sitkUInt8)
        empty.CopyInformation(gridImage)
        return SimpleNamespace(labels=empty, structures=())
    with tempfile.TemporaryDirectory(prefix="ProstateXfer-") as folder:
        path = Path(folder) / f"edited{SEGMENTATION_SUFFIX}"
        _write(copy, path, compress=False)
        labels, structures = read_segmentation(path)
    if Grid.of(labels).same_as(grid):
        # Bit for bit the grid it belongs to, not the one that has been through a text file.
        labels.CopyInformation(gridImage)
    else:
        labels = resample_to_grid(labels, grid, interpolation="nearest")
    return SimpleNamespace(labels=labels, structures=_withOwnNames(structures))


def createClosedSurface(node) -> None:
    """Show the segmentation in 3-D views; the surface is smoothed as Slicer does by default.

    Raises:
        ProstateXferError: Slicer cannot make a surface of it.
    """
    if not node.CreateClosedSurfaceRepresentation():
        raise ProstateXferError(
            f"Slicer cannot make a surface of the segmentation '{node.GetName()}'; check that it has segments."
        )
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility3D(True)


def removeClosedSurface(node) -> None:
    """Take the segmentation out of 3-D views again, and free its surface; nothing happens where there is none."""
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    # The surface may be what the segments are made of: then it is only hidden.
    if node.GetSegmentation().GetSourceRepresentationName() == surface:
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility3D(False)
    else:
        node.RemoveClosedSurfaceRepresentation()


def _write(copy, path: Path, *, compress: bool) -> None:
    """Write a node of `worldCopy`; neither it nor the storage node are in a scene that could remember the file."""
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetUseCompression(compress)
    storage.SetFileName(str(path.resolve()))
    if not storage.WriteData(copy) or not path.is_file():
        raise ProstateXferError(
            f"Slicer cannot write the segmentation '{copy.GetName()}' to '{path.parent}'; check its rights and space."
        )


def _setDisplay(display, structures: Sequence[Structure]) -> None:
    """Light fill and strong outline in slices; in 3-D, wholes (the gland) translucent and their parts opaque."""
    display.SetOpacity2DFill(_FILL_OPACITY)
    display.SetOpacity2DOutline(_OUTLINE_OPACITY)
    display.SetSliceIntersectionThickness(_OUTLINE_PIXELS)
    wholes = {structure.part_of for structure in structures}
    for structure in structures:
        if structure.name in wholes or is_gland(structure):
            display.SetSegmentOpacity3D(structure.segment_id, _WHOLE_OPACITY_3D)


def _withOwnNames(structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """The structures; of those that share a name, the second becomes "name (2)", as tables and parts go by names."""
    seen: Counter[str] = Counter()
    result = []
    for structure in structures:
        seen[structure.name] += 1
        number = seen[structure.name]
        result.append(replace(structure, name=f"{structure.name} ({number})") if number > 1 else structure)
    return tuple(result)
