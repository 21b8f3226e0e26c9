# SPDX-License-Identifier: Apache-2.0
"""A predicted and a reference label map with the same meaning of values, cut to the box around all labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames, name_of, scheme_of
from ProstateXferLib.images.grid import Grid, Interpolation, resample_to_grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX, read_segmentation
from ProstateXferLib.images.structures import PROSTATE, STRUCTURES, Structure, generic_structure
from ProstateXferLib.metrics.masks import bounding_box

_LARGEST_LABEL = 2**16 - 1
# Of the smallest voxel side. Headers keep directions in single precision or as quaternions, and tools round them anew:
# the masks of one PI-CAI case lie up to 0.007 mm apart. Such grids are one.
_SAME_GRID = 0.05
_PARTS_OF_PROSTATE = {s.name for s in STRUCTURES if s.part_of == PROSTATE.name and s.category == PROSTATE.category}


@dataclass(frozen=True)
class LabelImage:
    """A label map of non-negative whole numbers, and the names of its values where the file has them."""

    image: sitk.Image
    own_names: dict[int, str] | None


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Two label maps (z, y, x) in the values of `structures`, a box that begins at `start_zyx` of the grid.

    `declared` are the names each side speaks of, whether it has a voxel of them or not.
    """

    prediction_zyx: np.ndarray
    reference_zyx: np.ndarray
    start_zyx: tuple[int, int, int]
    grid: Grid
    structures: tuple[Structure, ...]
    prediction_declared: frozenset[str]
    reference_declared: frozenset[str]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Where the arrays lie in the image."""
        ends = zip(self.start_zyx, self.prediction_zyx.shape, strict=True)
        return tuple(slice(start, start + length) for start, length in ends)


def read_labels(path: Path) -> LabelImage:
    """A `.seg.nrrd` with its names, or a plain label map of any other format.

    Raises:
        ProstateXferError: not a label map.
    """
    if path.name.lower().endswith(SEGMENTATION_SUFFIX):
        labels, structures = read_segmentation(path)
        # A plain label map may have that ending, too; nothing in it has a name.
        named = any(structure != generic_structure(structure.value) for structure in structures)
        return LabelImage(labels, {s.value: name_of(s) for s in structures} if named else None)
    image = read_image(path)
    if image.GetDimension() != 3:
        raise ProstateXferError(f"'{path}' has {image.GetDimension()} dimensions; give a 3-D label map.")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ProstateXferError(f"'{path}' has several values a voxel; give a label map with one.")
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.dtype.kind == "f":
        if not np.isfinite(voxels).all() or (voxels != np.rint(voxels)).any():
            raise ProstateXferError(f"'{path}' holds fractions, so it is no label map; threshold it first.")
        image = sitk.Cast(image, sitk.sitkInt32)
    return LabelImage(image, None)


def on_grid(
    image: sitk.Image,
    grid: Grid,
    *,
    resample: bool,
    what: str,
    interpolation: Interpolation = "nearest",
    outside: float = 0,
) -> tuple[sitk.Image, str]:
    """The image on the reference's grid, and a warning where it was not there before.

    Voxels that lie within a twentieth of a voxel of the reference's are taken for the same.

    Raises:
        ProstateXferError: another grid, and nobody asked for resampling.
    """
    own = Grid.of(image)
    if own.same_as(grid, _SAME_GRID * min(grid.spacing_xyz)):
        image.SetOrigin(grid.origin_lps)
        image.SetSpacing(grid.spacing_xyz)
        image.SetDirection(grid.direction)
        return image, ""
    if not resample:
        raise ProstateXferError(
            f"The {what} and the reference lie on different grids ({_difference(own, grid)}): give --resample to bring "
            "it to the reference's."
        )
    moved = resample_to_grid(image, grid, interpolation=interpolation, outside=outside)
    return moved, f"The {what} was resampled ({interpolation}) to the reference's grid."


def label_pair(
    prediction: LabelImage, reference: LabelImage, prediction_names: LabelNames, reference_names: LabelNames
) -> LabelPair:
    """The pair of two label maps on one grid."""
    grid = Grid.of(reference.image)
    arrays = [sitk.GetArrayViewFromImage(side.image) for side in (prediction, reference)]
    box = _union_box(arrays)
    cropped = [array[box].copy() for array in arrays]
    names = [
        side.own_names or given.names_of(_values(array))
        for side, given, array in zip(
            (prediction, reference), (prediction_names, reference_names), cropped, strict=True
        )
    ]
    declared = [
        _declared(side, given, found)
        for side, given, found in zip((prediction, reference), (prediction_names, reference_names), names, strict=True)
    ]
    structures = scheme_of(declared[0] | declared[1])
    value_of = {s.name: s.value for s in structures}
    prediction_zyx, reference_zyx = (
        _renumbered(array, {value: value_of[name] for value, name in found.items()})
        for array, found in zip(cropped, names, strict=True)
    )
    start = tuple(axis.start for axis in box)
    return LabelPair(prediction_zyx, reference_zyx, start, grid, structures, *declared)


def empty_pair(names: Iterable[str]) -> LabelPair:
    """A pair in which neither side has a voxel, for what a case has nothing of."""
    nothing = np.zeros((1, 1, 1), dtype=np.uint8)
    declared = frozenset(names)
    grid = Grid((1, 1, 1), (1.0, 1.0, 1.0))
    return LabelPair(nothing, nothing, (0, 0, 0), grid, scheme_of(declared), declared, declared)


def _declared(side: LabelImage, given: LabelNames, found: dict[int, str]) -> frozenset[str]:
    """What is named or there; who labels the zones speaks of the prostate."""
    declared = frozenset(found.values()) | (frozenset() if side.own_names else given.declared())
    return declared | {PROSTATE.name} if declared & _PARTS_OF_PROSTATE else declared


def _union_box(arrays: Iterable[np.ndarray]) -> tuple[slice, slice, slice]:
    boxes = [box for box in (bounding_box(array != 0) for array in arrays) if box is not None]
    if not boxes:
        return (slice(0, 1),) * 3
    return tuple(slice(min(a.start for a in axis), max(a.stop for a in axis)) for axis in zip(*boxes, strict=True))


def _values(labels_zyx: np.ndarray) -> list[int]:
    """The label values that occur, without 0."""
    low, high = int(labels_zyx.min()), int(labels_zyx.max())
    if low < 0 or high > _LARGEST_LABEL:
        raise ProstateXferError(f"A label map holds values from {low} to {high}; labels are 0 to {_LARGEST_LABEL}.")
    return [int(value) for value in np.flatnonzero(np.bincount(labels_zyx.ravel())) if value]


def _renumbered(labels_zyx: np.ndarray, values: dict[int, int]) -> np.ndarray:
    """The labels in other values; what has no name becomes background."""
    table = np.zeros(max(max(values, default=0), int(labels_zyx.max())) + 1, dtype=np.uint16)
    for old, new in values.items():
        table[old] = new
    return table[labels_zyx]


def _difference(own: Grid, reference: Grid) -> str:
    """What of two grids differs, in words."""
    if own.size_xyz != reference.size_xyz:
        return " and ".join(" x ".join(map(str, grid.size_xyz)) for grid in (own, reference)) + " voxels"
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in own.size_xyz], indexing="ij"), axis=-1)
    apart_mm = np.linalg.norm(own.index_to_lps(corners) - reference.index_to_lps(corners), axis=-1).max()
    return f"their voxels lie up to {apart_mm:.3g} mm apart"
