# SPDX-License-Identifier: Apache-2.0
"""Bones of the pelvis and hips, as parts to paint. Left-side coordinates in LPS mm; the right side is mirrored."""

from __future__ import annotations

from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid, rotation
from ProstateXferLib.images.phantom.parts import Part, Tissue, both_sides
from ProstateXferLib.images.phantom.shapes import Capsule, Shape, Union
from ProstateXferLib.images.phantom.surroundings import Surroundings
from ProstateXferLib.images.structures import BODY, BONE, FEMORAL_HEAD_LEFT, FEMORAL_HEAD_RIGHT


def bones(around: Surroundings) -> list[Part]:
    """Hip bones, sacrum and femora, the femoral heads last: their spheres are whole in the label map."""
    heads = (
        (around.femoral_head_left, FEMORAL_HEAD_LEFT),
        (around.femoral_head_right, FEMORAL_HEAD_RIGHT),
    )
    sockets = [Part(head.grown(2.6), ((0.0, Tissue.CARTILAGE),), label=BODY.value) for head, _ in heads]
    layers = ((0.0, Tissue.CORTEX), (1.4, Tissue.MARROW_FATTY))
    spheres = [Part(head, layers, label=structure.value) for head, structure in heads]
    return [
        *_midline(around),
        *both_sides(_hip_bone(around)),
        *sockets,
        *both_sides(_femur(around)),
        *spheres,
    ]


def _bone(shape: Shape, *, cortex_mm: float, marrow: Tissue = Tissue.MARROW_RED, wobble_mm: float = 1.2) -> Part:
    return Part(shape, ((0.0, Tissue.CORTEX), (cortex_mm, marrow)), label=BONE.value, wobble_mm=wobble_mm)


def _midline(around: Surroundings) -> list[Part]:
    """Sacrum, coccyx and the disc of the pubic symphysis."""
    y, front = around.coccyx_y, around.symphysis_y
    sacrum = Ellipsoid((0.0, y + 24.0, 66.0), (50.0, 15.0, 40.0), rotation(x_deg=-22))
    coccyx = Capsule((0.0, y + 4.0, 2.0), (0.0, y + 15.0, 36.0), (4.5, 9.0))
    disc = Ellipsoid((0.0, front, -6.0), (4.0, 12.0, 18.0))
    return [
        _bone(sacrum, cortex_mm=2.0),
        _bone(coccyx, cortex_mm=1.3, wobble_mm=0.8),
        Part(disc, ((0.0, Tissue.DISC),), label=BODY.value),
    ]


def _hip_bone(around: Surroundings) -> list[Part]:
    """Ilium, acetabulum, ischium and pubis of the left side."""
    x, y, z = around.femoral_head_left.center_lps
    radius = around.femoral_head_left.radii_mm[0]
    front = around.symphysis_y
    tuber = (x - 34.0, y + 34.0, z - 62.0)
    pieces = (
        Ellipsoid((x + 2.0, y + 10.0, z + 76.0), (9.0, 50.0, 56.0), rotation(z_deg=-28)),  # wing of the ilium
        Capsule((x - 23.0, y - 17.0, z - 12.0), (x - 6.0, y - 14.0, z + 36.0), (10.0, 12.0)),  # anterior column
        Capsule((x - 21.0, y + 21.0, z - 20.0), (x - 8.0, y + 20.0, z + 38.0), (13.0, 14.0)),  # posterior column
        Ellipsoid((x - 3.0, y, z + radius + 9.0), (24.0, 25.0, 13.0)),  # roof of the socket
        Ellipsoid((x - radius - 2.5, y, z), (6.5, 23.0, 25.0), rotation(z_deg=-4)),  # its inner wall
        Capsule((x - 24.0, y + 25.0, z - 16.0), tuber, (11.0, 15.0)),  # ischium
        Capsule((x - 24.0, y - 17.0, z - 4.0), (17.0, front + 1.0, -4.0), (9.0, 8.5)),  # upper pubic ramus
        Ellipsoid((12.0, front, -8.0), (8.5, 14.0, 20.0), rotation(z_deg=-22)),  # body of the pubis
        Capsule((15.0, front + 4.0, -24.0), tuber, (6.5, 9.0)),  # lower pubic ramus
    )
    return [_bone(Union(pieces), cortex_mm=2.0, wobble_mm=0.9)]


def _femur(around: Surroundings) -> list[Part]:
    """Neck, trochanter and shaft of the left side."""
    x, y, z = around.femoral_head_left.center_lps
    pieces = (
        Capsule((x + 8.0, y + 1.0, z - 5.0), (x + 38.0, y + 10.0, z - 21.0), (17.0, 15.0)),
        Ellipsoid((x + 42.0, y + 13.0, z - 20.0), (14.0, 18.0, 23.0), rotation(z_deg=-15)),
        Capsule((x + 36.0, y + 10.0, z - 36.0), (x + 26.0, y + 8.0, z - 150.0), (18.0, 14.0)),
    )
    return [_bone(Union(pieces), cortex_mm=2.2, marrow=Tissue.MARROW_FATTY, wobble_mm=0.8)]
