# SPDX-License-Identifier: Apache-2.0
"""Masks as every metric takes them: arrays (z, y, x) or `SimpleITK.Image`s, checked in one place."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid

Mask = np.ndarray | sitk.Image


def foreground(mask: Mask, what: str = "mask") -> np.ndarray:
    """bool array (z, y, x), True where the mask is not zero."""
    if isinstance(mask, sitk.Image) and mask.GetNumberOfComponentsPerPixel() > 1:
        raise ProstateXferError(f"The {what} has several values a voxel; a mask with one value a voxel is needed.")
    array = sitk.GetArrayViewFromImage(mask) if isinstance(mask, sitk.Image) else np.asarray(mask)
    if not (array.dtype == bool or np.issubdtype(array.dtype, np.number)):
        raise ProstateXferError(f"The {what} is an array of {array.dtype}; a mask of numbers is needed.")
    if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
        raise ProstateXferError(f"The {what} holds values that are not finite; a mask is zero or not zero everywhere.")
    return array.astype(bool) if array.dtype != bool else array.copy()


def mask_pair(reference: Mask, prediction: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as bool arrays (z, y, x); two images must lie on the same grid, two arrays have the same shape."""
    check_same_grid(reference, prediction, ("reference", "prediction"))
    return foreground(reference, "reference"), foreground(prediction, "prediction")


def check_same_grid(first: Mask, second: Mask, names: tuple[str, str]) -> None:
    """Raise `ProstateXferError` unless voxel i of one is voxel i of the other."""
    if isinstance(first, sitk.Image) != isinstance(second, sitk.Image):
        raise ProstateXferError(
            f"The {names[0]} and the {names[1]} are an image and a bare array; pass two images or two arrays."
        )
    if isinstance(first, sitk.Image):
        if first.GetDimension() != 3 or second.GetDimension() != 3:
            raise ProstateXferError(f"The {names[0]} and the {names[1]} must both be 3-D images.")
        if not Grid.of(first).same_as(Grid.of(second)):
            raise ProstateXferError(
                f"The {names[0]} (size {first.GetSize()}) and the {names[1]} (size {second.GetSize()}) lie on "
                "different grids; resample one onto the other's grid first."
            )
    elif np.shape(first) != np.shape(second):
        raise ProstateXferError(
            f"The {names[0]} has shape {np.shape(first)} and the {names[1]} {np.shape(second)}; they must be equal."
        )


def grid_of(mask: Mask, spacing_zyx: Sequence[float] | None) -> Grid:
    """The grid of an image, or of an array (z, y, x) with the spacing given: origin zero, axes along LPS.

    The spacing must come with an array and must not come with an image, which carries its own: silent 1 mm voxels
    and spacings in the wrong order are the classic faults of mask metrics.
    """
    if isinstance(mask, sitk.Image):
        if spacing_zyx is not None:
            raise ProstateXferError("An image carries its own spacing; pass a spacing with bare arrays only.")
        return Grid.of(mask)
    if spacing_zyx is None:
        raise ProstateXferError("A bare array needs its spacing (z, y, x) in mm; or pass a SimpleITK image.")
    shape = np.shape(mask)
    if len(shape) != 3 or len(spacing_zyx) != 3:
        raise ProstateXferError(f"A mask of shape {shape} with {len(spacing_zyx)} spacings; three axes are needed.")
    return Grid(shape[::-1], tuple(spacing_zyx)[::-1])


def bounding_box(mask_zyx: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box of slices around the True voxels of a bool array (z, y, x); None when there are none."""
    per_slice = mask_zyx.any(axis=(1, 2))
    if not per_slice.any():
        return None
    first, last = _ends(per_slice)
    in_plane = mask_zyx[first:last].any(axis=0)
    return (slice(first, last), slice(*_ends(in_plane.any(axis=1))), slice(*_ends(in_plane.any(axis=0))))


def _ends(occupied: np.ndarray) -> tuple[int, int]:
    """First index that is True and one past the last."""
    return int(np.argmax(occupied)), int(len(occupied) - np.argmax(occupied[::-1]))
