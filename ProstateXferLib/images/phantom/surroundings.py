# SPDX-License-Identifier: Apache-2.0
"""Sizes and places of everything around the gland, fitted to it and drawn from the seed. Patient LPS, mm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid, rotation
from ProstateXferLib.images.phantom.seeds import Stream, generator
from ProstateXferLib.images.phantom.shapes import BentTube, SuperellipsePrism


@dataclass(frozen=True)
class Surroundings:
    """Organs with a shape of their own, and the landmarks that bones and muscles hang on (mm, LPS)."""

    body: SuperellipsePrism
    fat_mm: tuple[float, float]  # thickness in front and behind; the sides have their mean
    bladder: Ellipsoid
    rectum: BentTube
    rectum_gas: Ellipsoid | None
    femoral_head_left: Ellipsoid
    femoral_head_right: Ellipsoid
    symphysis_y: float  # middle of the pubic symphysis
    wall_x: float  # medial surface of the obturator internus at the gland
    coccyx_y: float  # front of the coccyx


def draw_surroundings(seed: int, gland: Ellipsoid) -> Surroundings:
    """Organs and landmarks that leave room for the gland."""
    rng = generator(seed, Stream.SURROUNDINGS)
    half_width, half_depth, half_height = gland.bounds_lps[1] - np.asarray(gland.center_lps)
    cx, cy, cz = gland.center_lps
    rectum, gas, back = _draw_rectum(rng, cy + half_depth, cz)
    symphysis_y = cy - half_depth - rng.uniform(20, 27)
    coccyx_y = back + rng.uniform(9, 15)
    front, rear = symphysis_y - rng.uniform(24, 32), coccyx_y + rng.uniform(30, 36)
    depth = float(rng.uniform(110, 130))
    # What bones and muscles leave of the patient's depth is fat, a little more of it in front.
    fat = max(2 * depth - (rear - front), 24.0)
    front_fat, back_fat = 0.55 * fat, 0.45 * fat
    body_y = float((front - front_fat + rear + back_fat) / 2)
    body = SuperellipsePrism((float(cx * 0.3), body_y), (float(rng.uniform(174, 200)), depth), 2.5)
    bladder = _draw_bladder(rng, gland, half_height)
    head_x, head_y, head_z = rng.uniform(87, 93), rng.uniform(-14, -6), cz + rng.uniform(16, 26)
    radius = float(rng.uniform(22.5, 25.5))
    left, right = (
        Ellipsoid((float(side * head_x + rng.uniform(-1, 1)), float(head_y + rng.uniform(-1, 1)),
                   float(head_z + rng.uniform(-1, 1))), (radius, radius, radius))
        for side in (1, -1)
    )  # fmt: skip
    wall_x = float(max(36.0, half_width + rng.uniform(7, 10)))
    return Surroundings(
        body, (float(front_fat), float(back_fat)), bladder, rectum, gas, left, right,
        float(symphysis_y), wall_x, float(coccyx_y),
    )  # fmt: skip


def _draw_bladder(rng: np.random.Generator, gland: Ellipsoid, half_height: float) -> Ellipsoid:
    """An ellipsoid of 70 to 300 cm3 on top of the gland, raised until it is clear of it: its truth is a whole one."""
    volume_cm3 = float(np.exp(rng.uniform(math.log(70), math.log(300))))
    wide, deep, high = rng.uniform(1.15, 1.35), rng.uniform(0.95, 1.1), rng.uniform(0.75, 0.9)
    scale = (volume_cm3 * 1000 * 3 / (4 * math.pi * wide * deep * high)) ** (1 / 3)
    radii = (float(scale * wide), float(scale * deep), float(scale * high))
    axes = rotation(x_deg=float(rng.uniform(5, 18)), z_deg=float(rng.uniform(-5, 5)))
    x, y, z = gland.center_lps
    y -= float(rng.uniform(6, 14))
    for lift in np.arange(0.75, 2.0, 0.02):
        center = (x + float(rng.uniform(-0.2, 0.2)), y, float(z + lift * (half_height + radii[2])))
        bladder = Ellipsoid(center, radii, axes)
        if bladder.is_apart_from(gland, gap_mm=0.7):
            break
    return bladder  # the last lift puts one height of the gland between the two


def _draw_rectum(
    rng: np.random.Generator, gland_back_y: float, gland_z: float
) -> tuple[BentTube, Ellipsoid | None, float]:
    """The tube behind the gland, a gas bubble in half of the patients, and the y of the tube's back wall."""
    width, depth = float(rng.uniform(13, 21)), float(rng.uniform(10, 18))
    y = gland_back_y + depth * 1.02 - 2.0
    tube = BentTube(
        x_mm=float(rng.uniform(-3, 3)), y_mm=float(y), knee_z_mm=float(gland_z - 2), bend_up_per_mm=0.008,
        bend_down_per_mm=0.012, radii_xy_mm=(width, depth), sway=float(rng.uniform(0.06, 0.16)),
        sway_wavelength_mm=float(rng.uniform(38, 60)), sway_phase=float(rng.uniform(0, 2 * math.pi)),
    )  # fmt: skip
    gas = None
    if rng.uniform() < 0.5:
        # Gas rises to the front of the lumen: the patient lies on the back.
        height = float(rng.uniform(10, 32))
        center = (tube.x_mm, y - 0.3 * depth, float(gland_z + rng.uniform(-8, 14)))
        gas = Ellipsoid(center, (0.72 * width, 0.62 * depth, height))
    return tube, gas, float(y + depth)
