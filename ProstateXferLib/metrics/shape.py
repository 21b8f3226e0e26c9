# SPDX-License-Identifier: Apache-2.0
"""Where a mask is and how large: volume, centroid, extent along the patient's axes, largest diameter.

A mask is a `SimpleITK.Image`, or an array (z, y, x) together with its `spacing_zyx` in mm (its first voxel then lies at
the origin and its axes x, y, z run to Left, Posterior, Superior). Every value of an empty mask but its volume is NaN.
"""

import math
from collections.abc import Sequence

import numpy as np

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.masks import Mask, bounding_box, check_same_grid, foreground, grid_of

# Up to so many points all distances are computed at once (2000^2 doubles = 32 MB); a convex hull has far fewer.
_MAX_PAIRWISE = 2000


def volume_cm3(mask: Mask, spacing_zyx: Sequence[float] | None = None) -> float:
    """Number of voxels times the volume of one, cm³ (= mL)."""
    return int(np.count_nonzero(foreground(mask))) * grid_of(mask, spacing_zyx).voxel_volume_mm3 / 1000


def centroid_lps(mask: Mask, spacing_zyx: Sequence[float] | None = None) -> tuple[float, float, float]:
    """Mean of the voxel centres, LPS mm; NaNs when the mask is empty."""
    indices = voxel_indices_xyz(foreground(mask))
    return centroid_of_voxels(indices, grid_of(mask, spacing_zyx)) if len(indices) else (math.nan,) * 3


def centroid_distance_mm(reference: Mask, prediction: Mask, spacing_zyx: Sequence[float] | None = None) -> float:
    """Distance between the two centroids, mm; NaN when either mask is empty."""
    check_same_grid(reference, prediction, ("reference", "prediction"))
    return math.dist(centroid_lps(reference, spacing_zyx), centroid_lps(prediction, spacing_zyx))


def bounds_lps(mask: Mask, spacing_zyx: Sequence[float] | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Least and greatest L, P and S over all voxel corners, LPS mm; NaNs when the mask is empty."""
    indices = voxel_indices_xyz(foreground(mask))
    if not len(indices):
        return (math.nan,) * 3, (math.nan,) * 3
    return bounds_of_voxels(indices, grid_of(mask, spacing_zyx))


def extent_mm(mask: Mask, spacing_zyx: Sequence[float] | None = None) -> tuple[float, float, float]:
    """Size of the box around all voxel corners along the patient's L-R, A-P and S-I axes, mm."""
    least, greatest = bounds_lps(mask, spacing_zyx)
    return tuple(high - low for low, high in zip(least, greatest, strict=True))


def max_diameter_mm(mask: Mask, spacing_zyx: Sequence[float] | None = None) -> float:
    """Largest distance between two outer face centres of voxels, mm; NaN when the mask is empty.

    One voxel gives its largest spacing and a row of n voxels n spacings; corner to corner would overrate a sphere
    by a voxel's diagonal and centre to centre would call a single voxel 0 mm.
    """
    inside = foreground(mask)
    grid = grid_of(mask, spacing_zyx)
    return diameter_of_voxels(inside, grid) if inside.any() else math.nan


def voxel_indices_xyz(mask_zyx: np.ndarray) -> np.ndarray:
    """(N, 3) indices x, y, z of the True voxels of a bool array (z, y, x)."""
    box = bounding_box(mask_zyx)
    if box is None:
        return np.zeros((0, 3), dtype=np.intp)
    return (np.argwhere(mask_zyx[box]) + [axis.start for axis in box])[:, ::-1]


def centroid_of_voxels(indices_xyz: np.ndarray, grid: Grid) -> tuple[float, float, float]:
    """Mean position of (N, 3) voxel indices x, y, z, LPS mm."""
    return tuple(grid.index_to_lps(indices_xyz.mean(axis=0)).tolist())


def bounds_of_voxels(indices_xyz: np.ndarray, grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Least and greatest LPS mm over the corners of (N, 3) voxel indices x, y, z."""
    centres = grid.index_to_lps(indices_xyz)
    # Along any axis a voxel reaches half the sum of its edges' shadows beyond its centre, whatever its orientation.
    reach = np.abs(grid.direction_matrix) @ np.asarray(grid.spacing_xyz) / 2
    return tuple((centres.min(axis=0) - reach).tolist()), tuple((centres.max(axis=0) + reach).tolist())


def diameter_of_voxels(mask_zyx: np.ndarray, grid: Grid) -> float:
    """`max_diameter_mm` of a bool array (z, y, x) with a voxel in it; the array may be a crop of the grid's."""
    points = _outer_face_centres(mask_zyx) * np.asarray(grid.spacing_xyz) @ grid.direction_matrix.T
    if len(points) > _MAX_PAIRWISE:
        points = _hull_points(points)
    return _largest_distance(points)


def _outer_face_centres(mask_zyx: np.ndarray) -> np.ndarray:
    """(N, 3) continuous indices x, y, z of the first and last face centre of every voxel row along x, y and z.

    Faces further in lie between these two, so they cannot be farther from anything.
    """
    box = bounding_box(mask_zyx)
    cropped = mask_zyx[box]
    points = []
    for axis in range(3):
        rows = np.argwhere(cropped.any(axis=axis))
        along = np.moveaxis(cropped, axis, -1)[rows[:, 0], rows[:, 1]]
        first = np.argmax(along, axis=1)
        last = along.shape[1] - 1 - np.argmax(along[:, ::-1], axis=1)
        points += [np.insert(rows.astype(float), axis, ends, axis=1) for ends in (first - 0.5, last + 0.5)]
    return np.concatenate(points)[:, ::-1]


def _hull_points(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull of (N, 3) points; all points where there is no hull."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        # Too flat for Qhull's precision, as where the spacings differ by a factor of 1e6 or more.
        return points


def _largest_distance(points: np.ndarray) -> float:
    """Largest distance within (N, 3) points, in chunks that keep memory small."""
    chunk = max(1, _MAX_PAIRWISE**2 // len(points))
    largest = 0.0
    for start in range(0, len(points), chunk):
        steps = points[start : start + chunk, None, :] - points[None, :, :]
        largest = max(largest, float(np.einsum("ijk,ijk->ij", steps, steps).max()))
    return math.sqrt(largest)
