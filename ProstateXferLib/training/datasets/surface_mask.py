# SPDX-License-Identifier: Apache-2.0
"""The voxels inside a closed surface.

Along every line of voxel centres parallel to the slice axis the crossings with the surface are counted; a voxel is
inside after an odd number of them. Lines through edges and corners are decided by half-open intervals whose ends two
neighbouring triangles compute from the same two corners in the same order, hence bit for bit alike: a closed surface is
crossed an even number of times by every line, exactly, and no line leaks. Surfaces within surfaces are holes.
"""

from pathlib import Path

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.training.datasets.stl_file import read_stl

FRAMES = ("lps", "ras")
# Of a surface that belongs to the image, at least so many of its corners lie in it; a field of view may cut the rest.
_LEAST_INSIDE = 0.5


def surface_mask(path: Path, grid: Grid, *, frame: str = "lps") -> np.ndarray:
    """bool (z, y, x): the voxels whose centres are inside the STL surface.

    `frame` says along which patient axes the file's coordinates, mm, run: "lps" (DICOM) or "ras".

    Raises:
        ProstateXferError: the file is no STL file, its surface is not closed or lies outside the image (the sentence
            says whether it would fit in the other frame).
    """
    if frame not in FRAMES:
        raise ProstateXferError(f"A surface's frame is one of {', '.join(FRAMES)}, not '{frame}'.")
    triangles_lps = read_stl(path) * _to_lps(frame)
    inside = float(grid.contains(triangles_lps.reshape(-1, 3)).mean())
    if inside < _LEAST_INSIDE:
        other = FRAMES[1 - FRAMES.index(frame)]
        swapped = triangles_lps * _to_lps("ras")
        fits = float(grid.contains(swapped.reshape(-1, 3)).mean()) >= _LEAST_INSIDE
        advice = f"set the frame '{other}', in which it fits" if fits else "check that it belongs to this image"
        raise ProstateXferError(
            f"The surface '{path}' lies outside the image ({inside:.0%} of it inside, in the frame '{frame}'): "
            f"{advice}."
        )
    vertices_lps, corners = np.unique(triangles_lps.reshape(-1, 3), axis=0, return_inverse=True)
    corners = corners.reshape(-1, 3)
    _require_closed(corners, path)
    return mask_of_triangles(grid.lps_to_index(vertices_lps), corners, grid.shape_zyx)


def mask_of_triangles(vertices_xyz: np.ndarray, corners: np.ndarray, shape_zyx: tuple[int, int, int]) -> np.ndarray:
    """bool (z, y, x): voxel centres inside closed triangles.

    `vertices_xyz` (n, 3) are continuous voxel indices x, y, z; `corners` (triangles, 3) are positions in them, so that
    triangles that share a corner share its very numbers.
    """
    depth, height, width = shape_zyx
    x, y, z = _crossings(vertices_xyz, corners, width, height)
    mask = np.zeros(shape_zyx, dtype=bool)
    # A voxel is behind a crossing when its centre is at it or after it.
    first = np.clip(np.ceil(z), 0, depth).astype(np.int64)
    kept = first < depth
    if not kept.any():
        return mask
    first, x, y = first[kept], x[kept], y[kept]
    # A lesion is small and a volume is not: only the box around the crossings is worked on, to the last slice.
    z0, y0, x0 = int(first.min()), int(y.min()), int(x.min())
    shape = (depth - z0, int(y.max()) - y0 + 1, int(x.max()) - x0 + 1)
    place = np.ravel_multi_index((first - z0, y - y0, x - x0), shape)
    odd = (np.bincount(place, minlength=np.prod(shape)) & 1).astype(bool).reshape(shape)
    box = (slice(z0, depth), slice(y0, y0 + shape[1]), slice(x0, x0 + shape[2]))
    mask[box] = np.logical_xor.accumulate(odd, axis=0)
    return mask


def _crossings(
    vertices: np.ndarray, corners: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column x, row y (whole numbers) and height z of every crossing of a triangle with a line of voxel centres."""
    y_of = vertices[corners, 1]
    low, high = y_of.min(axis=1), y_of.max(axis=1)
    # Rows r with low < r <= high: half-open, so that of two triangles that meet in a corner on a row one counts.
    first = np.clip(np.floor(low) + 1, 0, height).astype(np.int64)
    last = np.clip(np.floor(high), -1, height - 1).astype(np.int64)
    triangle, row = _ranges(first, last)
    left, right = _row_segments(vertices, corners[triangle], row)
    # Columns c with left x <= c < right x.
    first = np.clip(np.ceil(left[:, 0]), 0, width).astype(np.int64)
    last = np.clip(np.ceil(right[:, 0]) - 1, -1, width - 1).astype(np.int64)
    segment, column = _ranges(first, last)
    (x0, z0), (x1, z1) = left[segment].T, right[segment].T
    return column, row[segment], z0 + (column - x0) / (x1 - x0) * (z1 - z0)


def _row_segments(vertices: np.ndarray, corners: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each row cuts its triangle: the left and the right end, (n, 2) as x, z.

    Exactly two edges of a triangle straddle a row in the half-open sense.
    """
    ends = np.full((len(corners), 2, 2), np.nan)
    found = np.zeros(len(corners), dtype=np.int64)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        # From the corner of the smaller number to the other, whichever triangle asks.
        start = np.minimum(corners[:, one], corners[:, two])
        stop = np.maximum(corners[:, one], corners[:, two])
        a, b = vertices[start], vertices[stop]
        at = np.flatnonzero((a[:, 1] < row) != (b[:, 1] < row))
        share = (row[at] - a[at, 1]) / (b[at, 1] - a[at, 1])
        ends[at, found[at]] = a[at][:, [0, 2]] + share[:, None] * (b[at] - a[at])[:, [0, 2]]
        found[at] += 1
    swap = ends[:, 0, 0] > ends[:, 1, 0]
    ends[swap] = ends[swap][:, ::-1]
    return ends[:, 0], ends[:, 1]


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every i the whole numbers first[i] to last[i]: (i repeated, the numbers)."""
    counts = np.maximum(last - first + 1, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    begin = np.cumsum(counts) - counts
    return owner, np.arange(counts.sum()) - begin[owner] + first[owner]


def _to_lps(frame: str) -> np.ndarray:
    return np.array([-1.0, -1.0, 1.0] if frame == "ras" else [1.0, 1.0, 1.0])


def _require_closed(corners: np.ndarray, path: Path) -> None:
    """Raise unless every edge belongs to an even number of triangles."""
    proper = corners[(corners != np.roll(corners, 1, axis=1)).all(axis=1)]  # a triangle of two corners has no inside
    edges = np.sort(np.concatenate([proper[:, [0, 1]], proper[:, [1, 2]], proper[:, [2, 0]]]), axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    if open_edges := int(np.count_nonzero(counts % 2)):
        raise ProstateXferError(
            f"The surface '{path}' is not closed ({open_edges} edges lack a neighbour): repair it, for example in "
            "3D Slicer or MeshLab."
        )
