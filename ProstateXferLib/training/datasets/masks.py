# SPDX-License-Identifier: Apache-2.0
"""The voxels of a case: its images, and its structures on the grid of the first image."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.surface_mask import surface_mask

# Headers of one grid, written by different tools, differ by up to 0.007 mm in the pairs of PI-CAI.
HEADER_TOLERANCE_MM = 0.01


def read_sequence(case: Case, sequence: str) -> sitk.Image:
    """One image of a case as a 3-D image; of a file with several sequences the one volume that is meant.

    Raises:
        ProstateXferError: the case has no such sequence, or the file cannot be read or is not what it should be.
    """
    if sequence not in case.images:
        raise ProstateXferError(
            f"The case '{case.case_id}' has no {sequence} image; it has {', '.join(case.images) or 'none'}."
        )
    image = read_image(case.images[sequence])
    channel = case.channels.get(sequence)
    if channel is None:
        return image
    # read_image has made one volume of a 4-D image with one.
    volumes = 1 if image.GetDimension() == 3 else image.GetSize()[3]
    if channel >= volumes:
        raise ProstateXferError(
            f"'{case.images[sequence]}' has {volumes} volume(s), so channel {channel} ({sequence}) is not there."
        )
    return image if image.GetDimension() == 3 else image[:, :, :, channel]


def read_mask(masks: Sequence[Mask], grid: Grid) -> sitk.Image:
    """The union of a structure's masks as uint8 (0, 1) on a grid; empty where there are no masks.

    Label images must lie on the grid (headers that differ by less than 0.01 mm are the same; the order in which the
    voxels are stored does not matter) unless the mask says that it may be resampled, by nearest neighbour. STL surfaces
    are filled (surface_mask).

    Raises:
        ProstateXferError: a file cannot be read, holds fractions, or lies on another grid.
    """
    united = np.zeros(grid.shape_zyx, dtype=bool)
    for mask in masks:
        if mask.path.suffix.lower() == ".stl":
            united |= surface_mask(mask.path, grid, frame=mask.frame)
        else:
            united |= _label_mask(mask, grid)
    return grid.image(united)


def _label_mask(mask: Mask, grid: Grid) -> np.ndarray:
    labels = read_image(mask.path)
    if labels.GetDimension() != 3 or labels.GetNumberOfComponentsPerPixel() != 1:
        raise ProstateXferError(f"'{mask.path}' is no 3-D label image: export one volume with one value in each voxel.")
    own = Grid.of(labels)
    if not own.same_as(grid, HEADER_TOLERANCE_MM):
        # The same voxels in another order (slices from the head down, say) lose nothing by being looked up.
        if not mask.resample and not _same_voxels(own, grid):
            raise ProstateXferError(
                f"The labels '{mask.path}' ({_size(own)}) lie on another grid than the image ({_size(grid)}): choose "
                "the labels drawn on it, or let them be resampled (the layout's option resample: true)."
            )
        labels = resample_to_grid(labels, grid, interpolation="nearest")
    values = sitk.GetArrayViewFromImage(labels)
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.rint(values)).any()):
        raise ProstateXferError(f"'{mask.path}' holds fractions, not labels: threshold it first.")
    return np.isin(values, mask.values) if mask.values else values > 0


def _same_voxels(one: Grid, other: Grid) -> bool:
    """Whether the voxel centres of both are the same, whichever way each counts its axes."""
    ends = [(0, n - 1) for n in one.size_xyz]
    corners_lps = one.index_to_lps(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3))
    found_xyz = np.rint(other.lps_to_index(corners_lps))
    if np.linalg.norm(other.index_to_lps(found_xyz) - corners_lps, axis=1).max() > HEADER_TOLERANCE_MM:
        return False
    at_ends = (found_xyz == 0) | (found_xyz == np.array(other.size_xyz) - 1)
    # One step along any axis of the one is one step along an axis of the other.
    steps = np.rint(np.abs(other.lps_to_index(one.index_to_lps(np.eye(3))) - other.lps_to_index(one.origin_lps)))
    unit = bool(((steps == 0) | (steps == 1)).all() and (steps.sum(axis=0) == 1).all())
    return unit and bool(at_ends.all())


def _size(grid: Grid) -> str:
    size = " x ".join(str(n) for n in grid.size_xyz)
    return f"{size} voxels of {' x '.join(f'{s:.4g}' for s in grid.spacing_xyz)} mm"
