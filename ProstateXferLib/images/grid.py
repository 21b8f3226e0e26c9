# SPDX-License-Identifier: Apache-2.0
"""Where the voxels of an image lie: size, spacing, origin and direction without the voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError

Interpolation = Literal["linear", "nearest"]

_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
# float32 holds every integer of these exactly; the wider ones need float64 on the way through an interpolator.
_SMALL_INTEGERS = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16)
_LARGE_INTEGERS = (sitk.sitkUInt32, sitk.sitkInt32, sitk.sitkUInt64, sitk.sitkInt64)


@dataclass(frozen=True)
class Grid:
    """The geometry of a 3-D image. Index axes are x, y, z; world coordinates are LPS mm; `direction` is row-major."""

    size_xyz: tuple[int, int, int]
    spacing_xyz: tuple[float, float, float]
    origin_lps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        """Turn numpy numbers into plain ones, so that grids compare, hash and go to JSON; refuse impossible values."""
        object.__setattr__(self, "size_xyz", tuple(int(n) for n in self.size_xyz))
        for name in ("spacing_xyz", "origin_lps", "direction"):
            object.__setattr__(self, name, tuple(float(v) for v in np.ravel(getattr(self, name))))
        if len(self.size_xyz) != 3 or len(self.spacing_xyz) != 3 or len(self.origin_lps) != 3:
            raise ProstateXferError("A grid needs three sizes, three spacings and three origin coordinates.")
        if len(self.direction) != 9 or not math.isfinite(sum(self.direction)):
            raise ProstateXferError("The direction of a grid needs nine finite numbers (a 3 x 3 matrix, row by row).")
        if min(self.size_xyz) < 1:
            raise ProstateXferError(f"A grid of size {self.size_xyz} has no voxels; every size must be at least 1.")
        if not all(math.isfinite(s) and s > 0 for s in self.spacing_xyz) or not math.isfinite(sum(self.origin_lps)):
            raise ProstateXferError(
                f"Spacing {self.spacing_xyz} mm and origin {self.origin_lps} mm must be finite, spacing above zero."
            )
        if abs(np.linalg.det(self.direction_matrix)) < 1e-6:
            raise ProstateXferError("The direction matrix of the image is singular; correct the image's header.")

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of a 3-D image."""
        if image.GetDimension() != 3:
            raise ProstateXferError(f"The image has {image.GetDimension()} dimensions; a 3-D image is needed.")
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Shape of the image's array."""
        return self.size_xyz[::-1]

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Spacing along the axes of the image's array, mm."""
        return self.spacing_xyz[::-1]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return math.prod(self.spacing_xyz)

    @property
    def direction_matrix(self) -> np.ndarray:
        """(3, 3): column i is the unit vector in LPS along index axis i of x, y, z."""
        return np.reshape(self.direction, (3, 3))

    def image(self, array_zyx: np.ndarray) -> sitk.Image:
        """The array (z, y, x) as an image on this grid; bool becomes uint8, float16 becomes float32."""
        array_zyx = np.asarray(array_zyx)
        if array_zyx.shape != self.shape_zyx:
            raise ProstateXferError(
                f"An array of shape {array_zyx.shape} does not fit a grid of shape {self.shape_zyx} (z, y, x)."
            )
        substitutes = {np.dtype(bool): np.uint8, np.dtype(np.float16): np.float32}
        array_zyx = array_zyx.astype(substitutes.get(array_zyx.dtype, array_zyx.dtype), copy=False)
        image = sitk.GetImageFromArray(np.ascontiguousarray(array_zyx), isVector=False)
        image.SetSpacing(self.spacing_xyz)
        image.SetOrigin(self.origin_lps)
        image.SetDirection(self.direction)
        return image

    def index_to_lps(self, indices_xyz: np.ndarray) -> np.ndarray:
        """LPS mm (..., 3) of continuous indices (..., 3) in the order x, y, z; integers are voxel centres."""
        scaled = np.asarray(indices_xyz, dtype=np.float64) * np.asarray(self.spacing_xyz)
        return scaled @ self.direction_matrix.T + np.asarray(self.origin_lps)

    def lps_to_index(self, points_lps: np.ndarray) -> np.ndarray:
        """Continuous indices (..., 3) in the order x, y, z of points (..., 3) in LPS mm."""
        offset = np.asarray(points_lps, dtype=np.float64) - np.asarray(self.origin_lps)
        return offset @ np.linalg.inv(self.direction_matrix).T / np.asarray(self.spacing_xyz)

    def contains(self, points_lps: np.ndarray) -> np.ndarray:
        """bool (...): whether points (..., 3) in LPS mm lie within the outer edges of the voxels."""
        index_xyz = self.lps_to_index(points_lps)
        return np.all((index_xyz >= -0.5) & (index_xyz <= np.asarray(self.size_xyz) - 0.5), axis=-1)

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same size and every voxel centre lies within `tolerance_mm` of its counterpart."""
        if self.size_xyz != other.size_xyz:
            return False
        # The distance between two affine maps is largest at a corner.
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.size_xyz], indexing="ij"), axis=-1)
        distance_mm = np.linalg.norm(self.index_to_lps(corners) - other.index_to_lps(corners), axis=-1)
        return bool(distance_mm.max() <= tolerance_mm)


def resampled_grid(grid: Grid, spacing_xyz: tuple[float, float, float]) -> Grid:
    """The grid nnU-Net would resample to: nearly `spacing_xyz` mm, covering exactly the same box.

    The size is rounded (half to even, as nnU-Net does), the spacing is what then divides the extent exactly, and the
    origin moves so that the outer edges of the voxels, not their centres, stay where they were.
    """
    if not all(math.isfinite(s) and s > 0 for s in spacing_xyz):
        raise ProstateXferError(f"Cannot resample to a spacing of {tuple(spacing_xyz)} mm; it must be above zero.")
    old_spacing = np.asarray(grid.spacing_xyz)
    size_xyz = tuple(
        max(1, round(old / new * n)) for old, new, n in zip(grid.spacing_xyz, spacing_xyz, grid.size_xyz, strict=True)
    )
    if size_xyz == grid.size_xyz:
        return grid
    new_spacing = old_spacing * np.asarray(grid.size_xyz) / np.asarray(size_xyz)
    origin_lps = grid.index_to_lps((new_spacing / old_spacing - 1) / 2)
    return Grid(size_xyz, tuple(new_spacing), tuple(origin_lps), grid.direction)


def resample_to_grid(
    image: sitk.Image, grid: Grid, *, interpolation: Interpolation = "linear", outside: float = 0
) -> sitk.Image:
    """The image on another grid, through physical space; voxels beyond the image's outer edges become `outside`.

    Between the outermost voxel centres and the outer edges the border value continues, so that resampling onto a
    finer grid over the same box leaves no dark rim. The pixel type stays; integers are rounded to the nearest.
    """
    if interpolation not in _INTERPOLATORS:
        raise ProstateXferError(f"Interpolation '{interpolation}' is unknown; use one of {', '.join(_INTERPOLATORS)}.")
    pixel_type = image.GetPixelID()
    # ITK truncates interpolated values to integers, which would darken an image by half a grey level on average.
    if interpolation != "nearest" and pixel_type in _SMALL_INTEGERS:
        image = sitk.Cast(image, sitk.sitkFloat32)
    elif interpolation != "nearest" and pixel_type in _LARGE_INTEGERS:
        image = sitk.Cast(image, sitk.sitkFloat64)
    resampled = sitk.Resample(
        image,
        list(grid.size_xyz),
        sitk.Transform(3, sitk.sitkIdentity),
        _INTERPOLATORS[interpolation],
        list(grid.origin_lps),
        list(grid.spacing_xyz),
        list(grid.direction),
        float(outside),
        image.GetPixelID(),
    )
    if resampled.GetPixelID() == pixel_type:
        return resampled
    return _rounded(resampled, pixel_type)


def _rounded(image: sitk.Image, pixel_type: int) -> sitk.Image:
    """The float image as integers of `pixel_type`, clamped to its range (rounding may leave it)."""
    array = np.rint(sitk.GetArrayViewFromImage(image))
    limits = np.iinfo(sitk.GetArrayViewFromImage(sitk.Image(1, 1, pixel_type)).dtype)
    integers = sitk.GetImageFromArray(np.clip(array, limits.min, limits.max).astype(limits.dtype))
    integers.CopyInformation(image)
    return integers
