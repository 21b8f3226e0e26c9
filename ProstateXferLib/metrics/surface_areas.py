# SPDX-License-Identifier: Apache-2.0
"""The area of the surface through a cell of 2 x 2 x 2 voxels, for each of the 256 ways to fill it.

The surface cuts every edge of the cell between a voxel inside and one outside at its middle, as in marching cubes.
Marching cubes leaves open how an ambiguous or bent polygon is cut into triangles, and the area depends on it; the rules
below give the areas of DeepMind's surface-distance (and of MONAI's `use_subvoxels`), which a golden file holds us to.
"""

import functools
import itertools
import math

import numpy as np

# A code has bit 4 z + 2 y + x set when the voxel at (z, y, x) of the cell is inside.
_CORNERS_ZYX = tuple(itertools.product((0, 1), repeat=3))
_FULL = 255
# Columns in the table of multiples: a cut-off corner; from 1, half a face by its normal; from 4, half a cut-off edge.
_CORNER, _FACE, _EDGE = 0, 1, 4


def surfel_areas_mm2(spacing_zyx: tuple[float, float, float]) -> np.ndarray:
    """(256,) areas in mm² by code (bit 4 z + 2 y + x) for voxels of `spacing_zyx` mm; 0 for empty and full cells."""
    sides = np.prod(spacing_zyx) / np.asarray(spacing_zyx, dtype=np.float64)  # of a face across each axis
    corner = math.hypot(*sides) / 8
    edges = [math.hypot(*np.delete(sides, axis)) / 4 for axis in range(3)]
    return _multiples() @ np.array([corner, *(sides / 2), *edges])


@functools.cache
def _multiples() -> np.ndarray:
    """(256, 7): how many pieces of each kind make up the surface of a code.

    Voxels that touch by a face are cut off together, others each on their own; where more than four are inside, those
    outside are cut off instead.
    """
    table = np.zeros((_FULL + 1, 7))
    for code in range(_FULL + 1):
        fewer = code if code.bit_count() <= 4 else _FULL - code
        for component in _components([c for bit, c in enumerate(_CORNERS_ZYX) if fewer >> bit & 1]):
            for piece, count in _pieces(component):
                table[code, piece] += count
    return table


def _components(corners: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """The corners in groups that hang together along edges of the cell."""
    groups: list[list[tuple[int, int, int]]] = []
    for corner in corners:
        touching = [g for g in groups if any(math.dist(corner, other) == 1 for other in g)]
        groups = [g for g in groups if g not in touching] + [[corner, *itertools.chain(*touching)]]
    return groups


def _pieces(component: list[tuple[int, int, int]]) -> list[tuple[int, float]]:
    """(column, count) of the pieces that cut off one group of up to four corners."""
    edges = [(a, b) for a, b in itertools.combinations(component, 2) if math.dist(a, b) == 1]
    axes = [next(axis for axis in range(3) if a[axis] != b[axis]) for a, b in edges]
    degree = {corner: sum(corner in edge for edge in edges) for corner in component}
    normal = _FACE + next((axis for axis in range(3) if axis not in axes), 0)
    if len(component) == 1:
        return [(_CORNER, 1)]
    if len(component) == 2:
        return [(_EDGE + axes[0], 2)]
    if len(component) == 3:
        return [(normal, 1), (_CORNER, 3)]
    if len(edges) == 4:  # a whole face
        return [(normal, 2)]
    if max(degree.values()) == 3:  # a corner and its three neighbours: a hexagon
        return [(_CORNER, 6)]
    # A bent path of four: the edges at its two ends are cut off, and the twist between them.
    ends = [axis for edge, axis in zip(edges, axes, strict=True) if min(degree[corner] for corner in edge) == 1]
    return [(_CORNER, 4), *((_EDGE + axis, 1) for axis in ends)]
