# SPDX-License-Identifier: Apache-2.0
"""The rotated ellipsoid: the shape of everything whose volume and centroid must be known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ProstateXferLib.images.phantom.blocks import Places, Points

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def rotation(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> Matrix:
    """Rows are the local axes in LPS after turning about x, then y, then z (right-handed, degrees)."""
    cx, cy, cz = (math.cos(math.radians(a)) for a in (x_deg, y_deg, z_deg))
    sx, sy, sz = (math.sin(math.radians(a)) for a in (x_deg, y_deg, z_deg))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return as_matrix((about_z @ about_y @ about_x).T)


def as_matrix(array: np.ndarray) -> Matrix:
    """A (3, 3) array as nested tuples of plain floats, so that shapes compare and hash."""
    return tuple(tuple(float(v) for v in row) for row in array)


@dataclass(frozen=True)
class Ellipsoid:
    """Centre in LPS mm, three half-axes in mm, and the unit vectors along them (rows, LPS)."""

    center_lps: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    axes: Matrix = IDENTITY

    @property
    def volume_cm3(self) -> float:
        """4/3 pi a b c."""
        return 4 / 3 * math.pi * math.prod(self.radii_mm) / 1000

    @property
    def centroid_lps(self) -> tuple[float, float, float]:
        """The centre, LPS mm."""
        return self.center_lps

    @property
    def bounds_lps(self) -> np.ndarray:
        """(2, 3): low and high corner of the axis-aligned box, LPS mm."""
        half = np.sqrt(((np.asarray(self.radii_mm)[:, None] * np.asarray(self.axes)) ** 2).sum(axis=0))
        return np.stack([np.asarray(self.center_lps) - half, np.asarray(self.center_lps) + half])

    def distance_mm(self, places: Places) -> np.ndarray:
        """Approximate signed distance in mm, negative inside; its sign is exact."""
        near = far = 0.0
        for axis, radius in zip(np.asarray(self.axes), self.radii_mm, strict=True):
            squared = places.linear(axis / radius, -float(axis @ np.asarray(self.center_lps)) / radius) ** 2
            near = near + squared
            far = far + squared / radius**2
        # First-order distance of an implicit surface, k0 (k0 - 1) / |grad|; the small terms keep the centre finite.
        near, far = np.sqrt(near + 1e-18), np.sqrt(far + 1e-18 / min(self.radii_mm) ** 2)
        return near * (near - 1) / far

    def contains(self, points_lps: np.ndarray) -> np.ndarray:
        """bool (...): which of the points (..., 3) in LPS mm lie inside or on the surface."""
        return self.distance_mm(Points(np.asarray(points_lps, dtype=np.float64))) <= 0

    def surface_points(self, count: int = 600) -> np.ndarray:
        """(count, 3) points spread evenly over directions on the surface, LPS mm."""
        return self.from_unit_sphere(_fibonacci_sphere(count))

    def from_unit_sphere(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points of the unit ball, as LPS mm inside the ellipsoid."""
        return (points * np.asarray(self.radii_mm)) @ np.asarray(self.axes) + np.asarray(self.center_lps)

    def grown(self, margin_mm: float) -> Ellipsoid:
        """The ellipsoid with every half-axis longer (or shorter, where negative) by `margin_mm`."""
        return Ellipsoid(self.center_lps, tuple(r + margin_mm for r in self.radii_mm), self.axes)

    def mirrored(self) -> Ellipsoid:
        """The same on the other side of the midline x = 0."""
        x, y, z = self.center_lps
        return Ellipsoid((-x, y, z), self.radii_mm, tuple((-a, b, c) for a, b, c in self.axes))

    def holds(self, other: Ellipsoid, *, margin_mm: float = 0.5) -> bool:
        """Whether `other` lies inside and `margin_mm` short of the surface.

        600 directions leave less than 0.1 mm between the sampled and the true surface at these sizes, so that a
        margin of 0.5 mm makes the answer safe.
        """
        if min(self.radii_mm) <= margin_mm:
            return False
        return bool(self.grown(-margin_mm).contains(other.surface_points()).all())

    def is_apart_from(self, other: Ellipsoid, *, gap_mm: float) -> bool:
        """Whether the two share no point and about `gap_mm` of space is left between them."""
        if other.contains(np.asarray(self.center_lps)) or self.contains(np.asarray(other.center_lps)):
            return False
        return not (
            other.grown(gap_mm).contains(self.surface_points()).any()
            or self.grown(gap_mm).contains(other.surface_points()).any()
        )


@lru_cache(maxsize=8)
def _fibonacci_sphere(count: int) -> np.ndarray:
    """(count, 3) nearly even unit vectors (golden-angle spiral)."""
    steps = np.arange(count) + 0.5
    z = 1 - 2 * steps / count
    angle = math.pi * (1 + math.sqrt(5)) * steps
    ring = np.sqrt(1 - z**2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=-1)
    points.flags.writeable = False  # the cache hands out one array to all
    return points
