# SPDX-License-Identifier: Apache-2.0
"""The order in which a phantom is painted, and the finer structures in and around the gland."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid
from ProstateXferLib.images.phantom.gland import Gland
from ProstateXferLib.images.phantom.parts import Part, Tissue
from ProstateXferLib.images.phantom.seeds import Stream, generator
from ProstateXferLib.images.phantom.shapes import Capsule
from ProstateXferLib.images.phantom.skeleton import bones
from ProstateXferLib.images.phantom.soft_tissue import body_wall, bowel, muscles, vessels
from ProstateXferLib.images.phantom.surroundings import Surroundings
from ProstateXferLib.images.structures import BLADDER, PERIPHERAL_ZONE, RECTUM, SEMINAL_VESICLE, TRANSITION_ZONE


def scene(seed: int, gland: Gland, around: Surroundings) -> tuple[Part, ...]:
    """All parts of the pelvis but the lesions, back to front. Structures with analytic truth come late, uncovered."""
    rng = generator(seed, Stream.DETAILS)
    return (
        *body_wall(around),
        *muscles(around),
        *bones(around),
        *vessels(around),
        *bowel(around, rng),
        *_pelvic_floor(gland.whole, around),
        *_seminal_vesicles(gland.whole, rng),
        *_rectum(around),
        *_sphincter(gland.whole),
        Part(around.bladder, ((0.0, Tissue.BLADDER_WALL), (2.6, Tissue.URINE)), label=BLADDER.value),
        *_gland(gland, rng),
    )


def lesion_parts(gland: Gland) -> tuple[Part, ...]:
    """The lesions, painted last; their number in the lesion map is their place in the order, from 1."""
    return tuple(
        Part(lesion, ((0.0, Tissue.LESION),), label=number, blur_mm=1.0)
        for number, lesion in enumerate(gland.lesions, start=1)
    )


def _pelvic_floor(whole: Ellipsoid, around: Surroundings) -> list[Part]:
    """The levator ani sling beside gland and rectum, with fat and veins inside it, and the veins in front."""
    x, y, z = whole.center_lps
    half_width, half_depth, half_height = whole.bounds_lps[1] - np.asarray(whole.center_lps)
    back = around.rectum.y_mm + around.rectum.radii_xy_mm[1] + 4.0
    front = y - half_depth - 4.0
    width = max(half_width + 5.0, around.rectum.radii_xy_mm[0] * (1 + around.rectum.sway) + 6.0)
    sling = Ellipsoid((x, (front + back) / 2, z - 4.0), (width, (back - front) / 2, half_height + 26.0))
    dorsal = Ellipsoid((x, y - half_depth - 3.0, z - 2.0), (0.75 * half_width, 6.0, 0.9 * half_height))
    bundles = [
        Part(
            Capsule((x + s * 0.78 * half_width, y + 0.72 * half_depth, z - 0.7 * half_height),
                    (x + s * 0.72 * half_width, y + 0.80 * half_depth, z + 0.7 * half_height), (3.4, 4.2)),
            ((0.0, Tissue.PLEXUS),), blur_mm=0.8, wobble_mm=0.8,
        )
        for s in (1, -1)
    ]  # fmt: skip
    return [
        Part(sling, ((0.0, Tissue.MUSCLE), (3.6, Tissue.FAT)), wobble_mm=1.0),
        Part(dorsal, ((0.0, Tissue.PLEXUS),), wobble_mm=1.2, blur_mm=0.8),
        *bundles,
    ]


def _seminal_vesicles(whole: Ellipsoid, rng: np.random.Generator) -> list[Part]:
    """Two bow ties behind the base of the gland, below the bladder."""
    x, y, z = whole.center_lps
    _, half_depth, half_height = whole.bounds_lps[1] - np.asarray(whole.center_lps)
    parts = []
    for side in (1, -1):
        inner = (x + side * 5.0, y + 0.72 * half_depth, z + 0.80 * half_height)
        outer = (
            x + side * float(rng.uniform(25, 32)),
            y + 0.95 * half_depth + float(rng.uniform(-1, 4)),
            z + half_height + float(rng.uniform(5, 11)),
        )
        shape = Capsule(inner, outer, (5.0, float(rng.uniform(6.0, 8.0))))
        layers = ((0.0, Tissue.CAPSULE), (0.8, Tissue.SEMINAL_VESICLE))
        parts.append(Part(shape, layers, label=SEMINAL_VESICLE.value, wobble_mm=1.4))
    return parts


def _rectum(around: Surroundings) -> list[Part]:
    """Wall and stool, and the gas bubble within the lumen where there is one."""
    layers = ((0.0, Tissue.BOWEL_WALL), (3.2, Tissue.STOOL))
    parts = [Part(around.rectum, layers, label=RECTUM.value, wobble_mm=0.8)]
    if around.rectum_gas is not None:
        lumen = replace(around.rectum, radii_xy_mm=tuple(r - 3.0 for r in around.rectum.radii_xy_mm))
        parts.append(Part(around.rectum_gas, ((0.0, Tissue.GAS),), wobble_mm=1.0, clip=lumen))
    return parts


def _sphincter(whole: Ellipsoid) -> list[Part]:
    """The urethra below the apex with its ring of muscle, and the bulb of the penis."""
    x, y, z = whole.center_lps
    apex = (x, y + 2.0, z - 0.8 * whole.radii_mm[2])
    bulb = (x, y + 4.0, apex[2] - 30.0)
    return [
        Part(
            Capsule(apex, (x, y + 3.0, apex[2] - 24.0), (6.5, 7.0)),
            ((0.0, Tissue.MUSCLE), (3.2, Tissue.URETHRA), (5.2, Tissue.BOWEL_WALL)),
        ),
        Part(Ellipsoid(bulb, (13.0, 15.0, 9.0)), ((0.0, Tissue.FASCIA), (1.2, Tissue.NODULE_BRIGHT)), wobble_mm=1.0),
    ]


def _gland(gland: Gland, rng: np.random.Generator) -> list[Part]:
    """Capsule and peripheral zone, stroma in front, transition zone with nodules, urethra."""
    whole, zone = gland.whole, gland.transition_zone
    stroma = Ellipsoid(
        tuple(float(v) for v in whole.from_unit_sphere(np.array([0.0, -0.88, 0.0]))),
        (0.52 * whole.radii_mm[0], 0.24 * whole.radii_mm[1], 0.72 * whole.radii_mm[2]),
        whole.axes,
    )
    # The urethra enters at the base, bends forward around the verumontanum and leaves at the apex.
    bend, base, apex = (
        tuple(float(v) for v in whole.from_unit_sphere(np.array(p)))
        for p in ([0.0, 0.16, -0.12], [0.0, -0.12, 0.93], [0.0, 0.10, -0.95])
    )
    layers = ((0.0, Tissue.STROMA), (1.4, Tissue.URETHRA))
    return [
        Part(whole, ((0.0, Tissue.CAPSULE), (0.9, Tissue.PERIPHERAL_ZONE)), label=PERIPHERAL_ZONE.value),
        Part(stroma, ((0.0, Tissue.STROMA),), clip=whole, wobble_mm=1.0, blur_mm=0.8),
        Part(zone, ((0.0, Tissue.CAPSULE), (0.7, Tissue.TRANSITION_ZONE)), label=TRANSITION_ZONE.value, blur_mm=0.3),
        *_nodules(zone, rng),
        Part(Capsule(base, bend, (3.2, 3.4)), layers, blur_mm=0.4),
        Part(Capsule(bend, apex, (3.4, 3.0)), layers, blur_mm=0.4),
    ]


def _nodules(zone: Ellipsoid, rng: np.random.Generator) -> list[Part]:
    """Glandular (bright) and stromal (dark) nodules of hyperplasia, more of them in a large transition zone."""
    parts = []
    for _ in range(int(np.clip(round(zone.volume_cm3 / 3.0), 3, 12))):
        place = rng.normal(size=3)
        place *= rng.uniform(0.15, 0.7) / np.linalg.norm(place)
        size = float(np.clip(rng.normal(0.3, 0.08), 0.15, 0.45)) * (zone.volume_cm3 * 750 / math.pi) ** (1 / 3)
        radii = tuple(float(size * s) for s in rng.uniform(0.8, 1.2, size=3))
        center = tuple(float(v) for v in zone.from_unit_sphere(place))
        inside = Tissue.NODULE_BRIGHT if rng.uniform() < 0.55 else Tissue.NODULE_DARK
        layers = ((0.0, Tissue.STROMA), (0.8, inside))
        parts.append(Part(Ellipsoid(center, radii), layers, clip=zone, wobble_mm=0.8, blur_mm=0.4))
    return parts
