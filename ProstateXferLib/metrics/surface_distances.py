# SPDX-License-Identifier: Apache-2.0
"""The exact distance from each point of one surface to the nearest point of another, both ways.

Distances are needed at the points of the two surfaces only, a few per cent of the voxels of the box around them, and
most of them are short. So points of the other surface nearby are looked up in the rows of voxels around a point, the
nearest row first (`_within_reach`), and a KD-tree finds the rest: few and far points, such as a stray voxel. Neither
part grows with the empty space between the surfaces. docs/decisions/0006 has the alternatives and their times.
"""

import math

import numpy as np

from ProstateXferLib.metrics.surface_elements import SurfaceElements

# So many rows around a point are looked at before the tree takes over: to 7.8 mm for rows 0.5 mm and 3 mm apart.
_ROWS = 128
# Gaps along a row are kept in a byte; half of its range is left for adding to them.
_FAR, _MAX_GAP = 127, 100
# The rows must be laid out in memory once. Beyond so many voxels a point the tree alone is faster.
_VOXELS_PER_POINT = 64


def surface_distances_mm(
    first: SurfaceElements, second: SurfaceElements, spacing_zyx: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """From the points of `first` to `second` (N,) and from those of `second` to `first` (M,), mm.

    Both are on one lattice with `spacing_zyx` mm; the values are in the order of `occupied_zyx`, in float64 and exact
    but for its rounding. Each surface has at least one point.
    """
    squared = _within_reach(first, second, spacing_zyx)
    return (
        _completed(np.sqrt(squared[0]), first, second, spacing_zyx),
        _completed(np.sqrt(squared[1]), second, first, spacing_zyx),
    )


def _completed(
    distances_mm: np.ndarray, of: SurfaceElements, to: SurfaceElements, spacing_zyx: tuple[float, float, float]
) -> np.ndarray:
    """The distances with those that are still infinite filled in from a KD-tree."""
    missing = np.isinf(distances_mm)
    if missing.any():
        from scipy.spatial import cKDTree

        # Voxels are spread evenly, so the sliding midpoint splits as well as the median and costs half the time.
        tree = cKDTree(to.positions_mm(spacing_zyx), leafsize=32, balanced_tree=False, compact_nodes=False)
        distances_mm[missing] = tree.query(of.positions_mm(spacing_zyx, missing))[0]
    return distances_mm


def _within_reach(
    first: SurfaceElements, second: SurfaceElements, spacing_zyx: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances (N,) and (M,) in mm² up to the square of the reach; infinite beyond it."""
    squared = np.full(first.count, np.inf), np.full(second.count, np.inf)
    reach_mm = min(math.sqrt(_ROWS * spacing_zyx[0] * spacing_zyx[1] / math.pi), _MAX_GAP * spacing_zyx[2])
    margin = np.array([int(reach_mm / spacing) for spacing in spacing_zyx])
    box = _common_box(first, second, margin)
    if box is None:
        return squared
    low, high = box
    # Room around the box for a row that is looked up beyond it, and at each row's end for the gaps of the next.
    shape = tuple((high - low + margin * (2, 2, 1)).tolist())
    if math.prod(shape) > _VOXELS_PER_POINT * (first.count + second.count):
        return squared
    origin = low - margin * (1, 1, 0)
    laid_out = [_laid_out(elements, low, high, origin, shape) for elements in (first, second)]
    rings = _rings_of_rows(shape, spacing_zyx, reach_mm)
    for (points, inside), (targets, _), values in zip(laid_out, laid_out[::-1], squared, strict=True):
        gaps = _gaps_along_rows(targets, int(margin[2]))
        values[inside] = _nearest(np.flatnonzero(points), gaps, rings, spacing_zyx[2], reach_mm)
    return squared


def _common_box(
    first: SurfaceElements, second: SurfaceElements, margin: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """First and past-the-last lattice index of the box around all points that the other's box plus margin holds.

    None when there are none: each box plus margin then ends before the other begins.
    """
    starts = np.array([first.start_zyx, second.start_zyx])
    stops = np.array([first.stop_zyx, second.stop_zyx])
    low = np.maximum(starts, starts[::-1] - margin)
    high = np.minimum(stops, stops[::-1] + margin)
    return None if (high <= low).any() else (low.min(axis=0), high.max(axis=0))


def _laid_out(
    elements: SurfaceElements, low: np.ndarray, high: np.ndarray, origin: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray | slice]:
    """The points between `low` and `high` in a bool array of `shape` from `origin`, and which of all they are."""
    low, high = np.maximum(low, elements.start_zyx), np.minimum(high, elements.stop_zyx)
    there = tuple(slice(a, b) for a, b in zip(low - origin, high - origin, strict=True))
    here = tuple(slice(a, b) for a, b in zip(low - elements.start_zyx, high - elements.start_zyx, strict=True))
    array = np.zeros(shape, dtype=bool)
    array[there] = elements.occupied_zyx[here]
    if array[there].shape == elements.occupied_zyx.shape:
        return array, slice(None)
    chosen = np.zeros(elements.occupied_zyx.shape, dtype=bool)
    chosen[here] = True
    return array, chosen[elements.occupied_zyx]


def _gaps_along_rows(targets_zyx: np.ndarray, max_gap: int) -> np.ndarray:
    """Voxels to the nearest target in the same row, flat uint8; what is above `max_gap` means none.

    Every row ends with `max_gap` columns without a target, so what comes over from the next row is above it.
    """
    gaps = np.where(targets_zyx, np.uint8(0), np.uint8(_FAR)).ravel()
    step = 1
    # After steps of 1, 2, 4, ... 2^k a gap of up to 2^(k + 1) - 1 is the sum of some of them.
    while step <= max_gap:
        nearer = gaps.copy()
        np.minimum(nearer[step:], gaps[:-step] + np.uint8(step), out=nearer[step:])
        np.minimum(nearer[:-step], gaps[step:] + np.uint8(step), out=nearer[:-step])
        gaps, step = nearer, 2 * step
    return gaps


def _nearest(
    points: np.ndarray,
    gaps: np.ndarray,
    rings: list[tuple[float, tuple[int, ...]]],
    spacing_x: float,
    reach_mm: float,
) -> np.ndarray:
    """Squared distance in mm² of each point (flat index) to the nearest target; infinite beyond the reach.

    A point is done with as soon as the rows that are left are all farther away than what it has found.
    """
    squared_of_gap = np.full(256, np.inf)
    found = np.arange(int(reach_mm / spacing_x) + 1)
    squared_of_gap[found] = (found * spacing_x) ** 2
    result = np.full(len(points), np.inf)
    active, best = np.arange(len(points)), result.copy()
    for (squared_mm2, shifts), (next_mm2, _) in zip(rings, [*rings[1:], (reach_mm**2, ())], strict=True):
        gap = gaps.take(points + shifts[0])
        for shift in shifts[1:]:
            np.minimum(gap, gaps.take(points + shift), out=gap)
        np.minimum(best, squared_of_gap.take(gap) + squared_mm2, out=best)
        is_open = best > next_mm2
        still_open = np.count_nonzero(is_open)
        if still_open < 0.9 * len(points):  # a point that is done does no harm; taking points out has its price, too
            result[active] = best
            active, points, best = active[is_open], points[is_open], best[is_open]
        if not still_open:
            break
    result[active] = best
    result[result > reach_mm**2] = np.inf
    return result


def _rings_of_rows(
    shape: tuple[int, ...], spacing_zyx: tuple[float, float, float], reach_mm: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Squared distance across the rows in mm², and the flat shifts to the rows at it, by increasing distance."""
    rings = []
    for z in range(int(reach_mm / spacing_zyx[0]) + 1):
        for y in range(int(reach_mm / spacing_zyx[1]) + 1):
            squared_mm2 = (z * spacing_zyx[0]) ** 2 + (y * spacing_zyx[1]) ** 2
            if squared_mm2 <= reach_mm**2:
                shifts = {(sz * shape[1] + sy) * shape[2] for sz in (z, -z) for sy in (y, -y)}
                rings.append((squared_mm2, tuple(sorted(shifts))))
    return sorted(rings)
