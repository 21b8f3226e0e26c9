# SPDX-License-Identifier: Apache-2.0
"""Shapes for the surroundings of the gland: prisms, capsules and a curved tube. All in LPS mm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ProstateXferLib.images.phantom.blocks import Block, Places
from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid

_ENDLESS_MM = 1e4
Point = tuple[float, float, float]
AXIS_X, AXIS_Y, AXIS_Z = np.eye(3)


class Shape(Protocol):
    """What the renderer needs of a shape."""

    @property
    def bounds_lps(self) -> np.ndarray:
        """(2, 3): low and high corner of a box around the shape, LPS mm."""
        ...

    def distance_mm(self, places: Places) -> np.ndarray:
        """Approximate signed distance in mm, negative inside."""
        ...


@dataclass(frozen=True)
class SuperellipsePrism:
    """|x/a|^n + |y/b|^n <= 1 for every z: n = 2 is an elliptic cylinder, larger n squarer."""

    center_xy_lps: tuple[float, float]
    radii_xy_mm: tuple[float, float]
    exponent: float = 2.0

    @property
    def bounds_lps(self) -> np.ndarray:
        """The box, endless in z."""
        center = np.array([*self.center_xy_lps, 0.0])
        half = np.array([*self.radii_xy_mm, _ENDLESS_MM])
        return np.stack([center - half, center + half])

    def distance_mm(self, places: Places) -> np.ndarray:
        """Distance along the ray from the axis, mm; negative inside."""
        x = places.linear(AXIS_X, -self.center_xy_lps[0])
        y = places.linear(AXIS_Y, -self.center_xy_lps[1])
        powers = np.abs(x / self.radii_xy_mm[0]) ** self.exponent + np.abs(y / self.radii_xy_mm[1]) ** self.exponent
        scale = np.maximum(powers, 1e-12) ** (1 / self.exponent)
        return np.sqrt(x**2 + y**2) * (1 - 1 / scale)


@dataclass(frozen=True)
class Capsule:
    """A straight rod with round ends whose radius goes linearly from `radii_mm[0]` at start to `radii_mm[1]` at end."""

    start_lps: Point
    end_lps: Point
    radii_mm: tuple[float, float]

    @property
    def bounds_lps(self) -> np.ndarray:
        """The box around both ends."""
        ends = np.array([self.start_lps, self.end_lps])
        radius = max(self.radii_mm)
        return np.stack([ends.min(axis=0) - radius, ends.max(axis=0) + radius])

    def distance_mm(self, places: Places) -> np.ndarray:
        """Distance to the axis less the local radius, mm."""
        start, end = np.asarray(self.start_lps), np.asarray(self.end_lps)
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length
        fraction = np.clip(places.linear(along / length, -float(along @ start) / length), 0, 1)
        squared = 0.0
        for axis, center, slope in zip(np.eye(3), start, end - start, strict=True):
            squared = squared + (places.linear(axis, -float(center)) - slope * fraction) ** 2
        return np.sqrt(squared) - (self.radii_mm[0] + (self.radii_mm[1] - self.radii_mm[0]) * fraction)

    def mirrored(self) -> Capsule:
        """The same on the other side of the midline x = 0."""
        return Capsule(_flip(self.start_lps), _flip(self.end_lps), self.radii_mm)


@dataclass(frozen=True)
class BentTube:
    """A tube around the midline that runs up the patient and bends: the rectum and the anal canal.

    At height z its axis lies at y = `y_mm` + `bend_up_per_mm` (z - `knee_z_mm`)^2 above the knee, and with
    `bend_down_per_mm` below it. Its cross-section is an ellipse whose size sways with z like a folded bowel.
    """

    x_mm: float
    y_mm: float
    knee_z_mm: float
    bend_up_per_mm: float
    bend_down_per_mm: float
    radii_xy_mm: tuple[float, float]
    sway: float = 0.12
    sway_wavelength_mm: float = 45.0
    sway_phase: float = 0.0

    @property
    def bounds_lps(self) -> np.ndarray:
        """The box: endless in z, and backward as far as the bends go."""
        rx, ry = (r * (1 + self.sway) for r in self.radii_xy_mm)
        low = np.array([self.x_mm - 6 - rx, self.y_mm - ry, -_ENDLESS_MM])
        return np.stack([low, np.array([self.x_mm + 6 + rx, self.y_mm + 60 + ry, _ENDLESS_MM])])

    def distance_mm(self, places: Places) -> np.ndarray:
        """Distance in the axial plane along the ray from the tube's axis, mm."""
        height = places.linear(AXIS_Z, -self.knee_z_mm)
        bend = np.where(height > 0, self.bend_up_per_mm, self.bend_down_per_mm) * height**2
        wave = 2 * math.pi * height / self.sway_wavelength_mm + self.sway_phase
        size = 1 + self.sway * np.sin(wave)
        x = places.linear(AXIS_X, -self.x_mm) - 4 * np.sin(0.4 * wave)
        y = places.linear(AXIS_Y, -self.y_mm) - np.minimum(bend, 60)
        scale = np.sqrt((x / (self.radii_xy_mm[0] * size)) ** 2 + (y / (self.radii_xy_mm[1] * size)) ** 2) + 1e-6
        return np.sqrt(x**2 + y**2) * (1 - 1 / scale) - 1e-6


@dataclass(frozen=True)
class Union:
    """Shapes grown together, their seams filled over about `fillet_mm`: a bone of several pieces."""

    members: tuple[Ellipsoid | Capsule, ...]
    fillet_mm: float = 4.0

    @property
    def bounds_lps(self) -> np.ndarray:
        """The box around all members and their fillets."""
        boxes = np.array([m.bounds_lps for m in self.members])
        low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
        return np.stack([low - self.fillet_mm, high + self.fillet_mm])

    def distance_mm(self, places: Places) -> np.ndarray:
        """Smooth minimum of the members' distances, mm; far from all members just a large number."""
        if not isinstance(places, Block):
            distance = self.members[0].distance_mm(places)
            for member in self.members[1:]:
                distance = self._joined(distance, member.distance_mm(places))
            return distance
        distance = np.full(places.shape_zyx, 50.0)
        for member in self.members:
            margin = np.array([[-1.0], [1.0]]) * (self.fillet_mm + 5.0)
            block = places.within(member.bounds_lps + margin)
            if block is not None:
                part = distance[block.slices_in(places)]
                part[...] = self._joined(part, member.distance_mm(block))
        return distance

    def _joined(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        # Polynomial smooth minimum: equal to the minimum where the two differ by more than the fillet.
        overlap = np.maximum(self.fillet_mm - np.abs(first - second), 0) / self.fillet_mm
        return np.minimum(first, second) - overlap**2 * (self.fillet_mm / 4)

    def mirrored(self) -> Union:
        """The same on the other side of the midline x = 0."""
        return Union(tuple(m.mirrored() for m in self.members), self.fillet_mm)


def mirrored(shape: Ellipsoid | Capsule | Union) -> Ellipsoid | Capsule | Union:
    """The shape on the other side of the midline."""
    return shape.mirrored()


def _flip(point: Point) -> Point:
    return (-point[0], point[1], point[2])
