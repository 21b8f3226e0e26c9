# SPDX-License-Identifier: Apache-2.0
"""Any image as axial slices from feet to head, by reordering and reversing array axes: nothing is interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid

# Two assignments whose sums of cosines differ by less are a tie (an axis at 45 degrees) and the file's own order wins;
# without it the rounding of a header would decide.
_TIE = 1e-4


@dataclass(frozen=True)
class AxialView:
    """How to turn an array (z, y, x) of one image into (to Superior, to Posterior, to Left), and back.

    `permutation_zyx[k]` is the array axis that becomes axis k; `flips[k]` says whether it is reversed afterwards.
    """

    permutation_zyx: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Array (..., z, y, x) of the image as a new array (..., to Superior, to Posterior, to Left)."""
        leading = array.ndim - 3
        reordered = array.transpose(*range(leading), *(leading + axis for axis in self.permutation_zyx))
        return np.array(np.flip(reordered, self._flipped_axes(leading)), order="C")  # never a view: images die early

    def invert(self, array: np.ndarray) -> np.ndarray:
        """Array (..., to Superior, to Posterior, to Left) back in the image's own order (..., z, y, x)."""
        leading = array.ndim - 3
        inverse = np.argsort(self.permutation_zyx)
        unflipped = np.flip(array, self._flipped_axes(leading))
        return np.ascontiguousarray(unflipped.transpose(*range(leading), *(leading + int(axis) for axis in inverse)))

    def spacing_zyx(self, image: sitk.Image) -> tuple[float, float, float]:
        """Spacing of the image along the axes of the applied array, mm."""
        spacing_zyx = image.GetSpacing()[::-1]
        return tuple(spacing_zyx[axis] for axis in self.permutation_zyx)

    def _flipped_axes(self, leading: int) -> tuple[int, ...]:
        return tuple(leading + axis for axis in range(3) if self.flips[axis])


def axial_view(image: sitk.Image) -> AxialView:
    """The view of a 3-D image that brings its axes nearest to those of the patient; left-handed and oblique images too.

    Of the six ways to give each image axis one patient axis the one with the largest sum of |cosines| is taken, so
    that no two image axes ever claim the same patient axis.
    """
    cosines = Grid.of(image).direction_matrix  # [patient axis L, P, S][image axis x, y, z]
    best_sum, best = -1.0, (0, 1, 2)
    for image_axes in permutations(range(3)):
        total = sum(abs(cosines[patient, axis]) for patient, axis in enumerate(image_axes))
        if total > best_sum + _TIE:
            best_sum, best = total, image_axes
    # `best` lists image axes x, y, z for L, P, S; array axes are the other way round on both sides.
    permutation_zyx = tuple(2 - axis for axis in reversed(best))
    flips = tuple(bool(cosines[patient, best[patient]] < 0) for patient in (2, 1, 0))
    return AxialView(permutation_zyx, flips)


def axial_image(image: sitk.Image) -> sitk.Image:
    """The image with its voxels in the order of `axial_view`; every voxel keeps its place in the patient."""
    view = axial_view(image)
    grid = Grid.of(image)
    axes_xyz = [2 - axis for axis in reversed(view.permutation_zyx)]
    signs_xyz = np.where(view.flips[::-1], -1, 1)
    first_xyz = np.zeros(3)
    for axis, sign in zip(axes_xyz, signs_xyz, strict=True):
        first_xyz[axis] = 0 if sign > 0 else grid.size_xyz[axis] - 1
    axial_grid = Grid(
        size_xyz=tuple(grid.size_xyz[axis] for axis in axes_xyz),
        spacing_xyz=tuple(grid.spacing_xyz[axis] for axis in axes_xyz),
        origin_lps=tuple(grid.index_to_lps(first_xyz)),
        direction=tuple((grid.direction_matrix[:, axes_xyz] * signs_xyz).ravel()),
    )
    return axial_grid.image(view.apply(sitk.GetArrayViewFromImage(image)))
