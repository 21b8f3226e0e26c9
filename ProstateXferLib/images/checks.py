# SPDX-License-Identifier: Apache-2.0
"""Refusing images that no pipeline can use, with a sentence that says what to do."""

import math

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid

MINIMUM_IN_PLANE_VOXELS = 8
# Header units go wrong by powers of ten (metres, micrometres, 1e-6 placeholders); anatomy is imaged well within this.
SPACING_RANGE_MM = (0.01, 50.0)
# Larger than what rounding of a header causes, smaller than a visible gantry tilt (0.3 degrees).
_SHEAR_TOLERANCE = 5e-3
_COMPLEX_TYPES = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)


def check_image(image: sitk.Image, what: str = "T2w image") -> None:
    """Raise ProstateXferError unless the image is one 3-D grey-value volume with sound geometry and finite voxels."""
    _check_pixels(image, what)
    _check_geometry(image, what)
    _check_values(image, what)


def check_same_patient_space(
    image: sitk.Image, reference: sitk.Image, what: str, *, minimum_overlap: float = 0.1
) -> None:
    """Raise unless the image covers at least `minimum_overlap` of the reference's volume in patient coordinates.

    `what` names the image ("ADC map"). The test is the outer boxes only; misregistered images still pass.
    """
    reference_grid = Grid.of(reference)
    indices = [np.linspace(-0.5, n - 0.5, 2 * min(n, 10) + 1)[1::2] for n in reference_grid.size_xyz]
    points_lps = reference_grid.index_to_lps(np.stack(np.meshgrid(*indices, indexing="ij"), axis=-1))
    overlap = float(Grid.of(image).contains(points_lps).mean())
    if overlap < minimum_overlap:
        raise ProstateXferError(
            f"The {what} covers {overlap:.0%} of the reference image in patient coordinates; "
            "choose images of the same examination, or register them first."
        )


def _check_pixels(image: sitk.Image, what: str) -> None:
    dimension = image.GetDimension()
    if dimension != 3:
        size = " x ".join(str(n) for n in image.GetSize())
        raise ProstateXferError(f"The {what} has {dimension} dimensions ({size}); export one 3-D volume of it.")
    if 0 in image.GetSize():
        size = " x ".join(str(n) for n in image.GetSize())
        raise ProstateXferError(f"The {what} has no voxels ({size}); export it again.")
    if image.GetPixelID() in _COMPLEX_TYPES:
        raise ProstateXferError(f"The {what} has complex voxels; export the magnitude image.")
    components = image.GetNumberOfComponentsPerPixel()
    if components != 1 or "vector" in image.GetPixelIDTypeAsString():
        raise ProstateXferError(
            f"The {what} holds {components} values in each voxel (colour, or several volumes); "
            "export one grey-value volume."
        )


def _check_geometry(image: sitk.Image, what: str) -> None:
    spacing, low, high = image.GetSpacing(), *SPACING_RANGE_MM
    if not all(math.isfinite(s) and low <= s <= high for s in spacing):
        written = " x ".join(f"{s:g}" for s in spacing)
        raise ProstateXferError(
            f"The {what} has a voxel spacing of {written} mm, outside {low:g} to {high:g} mm; correct its header."
        )
    if not all(math.isfinite(v) for v in (*image.GetOrigin(), *image.GetDirection())):
        raise ProstateXferError(f"The {what} has a position or orientation that is not a number; correct its header.")
    axes = np.reshape(image.GetDirection(), (3, 3))
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SHEAR_TOLERANCE:
        raise ProstateXferError(
            f"The voxel axes of the {what} are not at right angles (a tilted gantry?); resample it to a straight grid."
        )
    in_plane = sorted(image.GetSize())[1:]
    if in_plane[0] < MINIMUM_IN_PLANE_VOXELS:
        raise ProstateXferError(
            f"The slices of the {what} have {in_plane[0]} x {in_plane[1]} voxels; at least "
            f"{MINIMUM_IN_PLANE_VOXELS} x {MINIMUM_IN_PLANE_VOXELS} are needed, so choose the full image."
        )


def _check_values(image: sitk.Image, what: str) -> None:
    voxels = sitk.GetArrayViewFromImage(image)
    minimum, maximum = voxels.min(), voxels.max()  # NaN spreads to both
    if not (np.isfinite(minimum) and np.isfinite(maximum)):
        count = int(np.count_nonzero(~np.isfinite(voxels)))
        raise ProstateXferError(
            f"The {what} has {count} voxels that are not finite numbers (NaN or infinite); replace them by 0."
        )
    if minimum == maximum:
        raise ProstateXferError(
            f"The {what} is empty: every voxel is {minimum:g}; check that the right image was chosen."
        )
