# SPDX-License-Identifier: Apache-2.0
"""Skin, fat, muscles, vessels and bowel around the pelvis, as parts to paint. LPS mm; the right side is mirrored."""

from __future__ import annotations

import numpy as np

from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid, rotation
from ProstateXferLib.images.phantom.parts import Part, Tissue, both_sides
from ProstateXferLib.images.phantom.shapes import Capsule, Shape, SuperellipsePrism, Union
from ProstateXferLib.images.phantom.surroundings import Surroundings
from ProstateXferLib.images.structures import BODY


def body_wall(around: Surroundings) -> list[Part]:
    """Outline of the patient: skin, fat beneath it, the deep fascia, and the cleft between the buttocks."""
    (x, y), (wide, deep) = around.body.center_xy_lps, around.body.radii_xy_mm
    front, back = around.fat_mm
    side = (front + back) / 2
    inner = SuperellipsePrism((x, y + (front - back) / 2), (wide - side, deep - side), 2.3)
    cleft = Ellipsoid((x, y + deep + 6.0, -40.0), (5.0, 30.0, 62.0))
    return [
        Part(around.body, ((0.0, Tissue.SKIN), (2.0, Tissue.FAT)), label=BODY.value, wobble_mm=1.6),
        Part(cleft, ((0.0, Tissue.SKIN),), clip=around.body),
        Part(cleft.grown(-2.2), ((0.0, Tissue.AIR),), label=0),
        Part(inner, ((0.0, Tissue.FASCIA), (1.3, Tissue.FAT)), wobble_mm=1.5),
    ]


def muscles(around: Surroundings) -> list[Part]:
    """The muscles a radiologist looks for at this level, separated by thin planes of fat."""
    front = around.symphysis_y
    wall = Ellipsoid((0.0, front + 42.0, 104.0), (132.0, 66.0, 76.0))
    parts = [Part(wall, ((0.0, Tissue.MUSCLE), (9.0, Tissue.FAT)), wobble_mm=2.0)]
    parts += both_sides([_hip_mass(around)])
    parts += both_sides([_muscle(shape) for shape in _hip_muscles(around) + _pelvic_muscles(around)])
    return parts


def _hip_mass(around: Surroundings) -> Part:
    """The small muscles around the joint, too many to name: one mass under bones and named muscles."""
    x, y, z = around.femoral_head_left.center_lps
    pieces = (
        Ellipsoid((x + 8.0, y + 10.0, z - 10.0), (54.0, 40.0, 70.0), rotation(z_deg=-8)),
        Capsule((x + 8.0, y - 24.0, z + 40.0), (x + 12.0, y - 16.0, z - 90.0), (24.0, 34.0)),
        Capsule((x - 22.0, y + 34.0, z - 6.0), (x + 14.0, y + 28.0, z - 20.0), (15.0, 18.0)),
    )
    return Part(Union(pieces, 14.0), ((0.0, Tissue.MUSCLE),), wobble_mm=2.5)


def _muscle(shape: Shape) -> Part:
    return Part(shape, ((0.0, Tissue.FAT), (1.4, Tissue.MUSCLE)), wobble_mm=2.0)


def _hip_muscles(around: Surroundings) -> list[Shape]:
    """Gluteal, thigh and hip flexor muscles of the left side."""
    x, y, z = around.femoral_head_left.center_lps
    back = around.coccyx_y
    return [
        Ellipsoid((x - 16.0, back + 9.0, 0.0), (72.0, 22.0, 88.0), rotation(x_deg=8, z_deg=-21)),
        Ellipsoid((x + 40.0, y - 4.0, z + 34.0), (14.0, 38.0, 50.0), rotation(z_deg=12)),
        Ellipsoid((x + 24.0, y - 12.0, z + 38.0), (13.0, 26.0, 34.0), rotation(z_deg=18)),
        Ellipsoid((x + 46.0, y - 30.0, z - 10.0), (8.0, 22.0, 62.0), rotation(z_deg=24)),
        Ellipsoid((x + 53.0, y - 4.0, z - 84.0), (16.0, 36.0, 52.0)),
        Ellipsoid((x + 24.0, y - 46.0, z - 6.0), (15.0, 11.0, 64.0)),
        Ellipsoid((x + 22.0, y - 62.0, z - 6.0), (14.0, 7.0, 72.0), rotation(y_deg=-14, z_deg=20)),
        Capsule((x - 6.0, y - 36.0, z + 58.0), (x + 12.0, y - 22.0, z - 60.0), (19.0, 14.0)),
        Ellipsoid((x + 2.0, y + 40.0, z - 38.0), (30.0, 8.0, 20.0), rotation(z_deg=-12)),
        Ellipsoid((x - 20.0, y + 52.0, z - 92.0), (20.0, 17.0, 38.0)),
    ]


def _pelvic_muscles(around: Surroundings) -> list[Shape]:
    """Obturators, adductors and the straight abdominal muscle of the left side."""
    _, y, z = around.femoral_head_left.center_lps
    front = around.symphysis_y
    return [
        Ellipsoid((17.0, front - 17.0, 64.0), (18.0, 6.5, 62.0), rotation(x_deg=-4)),
        Ellipsoid((45.0, front - 5.0, -10.0), (24.0, 11.0, 30.0), rotation(z_deg=24)),
        Ellipsoid((36.0, front - 2.0, -52.0), (25.0, 22.0, 30.0)),
        Ellipsoid((50.0, front + 22.0, -28.0), (25.0, 12.0, 15.0), rotation(z_deg=30)),
        Ellipsoid((around.wall_x + 9.0, y + 4.0, z - 20.0), (9.5, 39.0, 36.0), rotation(z_deg=-8)),
    ]


def vessels(around: Surroundings) -> list[Part]:
    """Femoral artery and vein, and the spermatic cord, of both sides."""
    x, y, z = around.femoral_head_left.center_lps
    front = around.symphysis_y
    top, low = (x - 32.0, y - 46.0, z + 62.0), (x - 14.0, y - 50.0, z - 70.0)
    artery = Capsule((top[0] + 11.0, *top[1:]), (low[0] + 11.0, *low[1:]), (5.2, 4.6))
    cord = Capsule((x - 50.0, front - 30.0, 52.0), (24.0, front - 30.0, -40.0), (6.0, 7.0))
    return both_sides([
        Part(Capsule(top, low, (6.5, 5.6)), ((0.0, Tissue.BOWEL_WALL), (0.9, Tissue.VEIN))),
        Part(artery, ((0.0, Tissue.BOWEL_WALL), (0.9, Tissue.ARTERY))),
        Part(cord, ((0.0, Tissue.FASCIA), (1.0, Tissue.FAT), (3.4, Tissue.PLEXUS)), wobble_mm=0.6),
    ])  # fmt: skip


def bowel(around: Surroundings, rng: np.random.Generator) -> list[Part]:
    """A few loops above the bladder, some with gas."""
    top = around.bladder.bounds_lps[1, 2]
    parts = []
    for _ in range(6):
        depth = rng.uniform(-45, 15) + 0.3 * around.symphysis_y
        start = np.array([rng.uniform(-55, 55), depth, top + rng.uniform(6, 45)])
        end = start + rng.normal(0, 1, 3) * (26, 14, 8)
        end[2] = max(end[2], top + 6.0)
        content = Tissue.GAS if rng.uniform() < 0.3 else Tissue.STOOL
        radius = float(rng.uniform(9, 14))
        loop = Capsule(tuple(map(float, start)), tuple(map(float, end)), (radius, radius))
        parts.append(Part(loop, ((0.0, Tissue.BOWEL_WALL), (2.4, content)), wobble_mm=1.2))
    return parts
