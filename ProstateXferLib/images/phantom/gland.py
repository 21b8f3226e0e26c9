# SPDX-License-Identifier: Apache-2.0
"""The prostate of a phantom: gland, transition zone and lesions as ellipsoids of known volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid, as_matrix, rotation
from ProstateXferLib.images.phantom.seeds import Stream, generator

# Lesions keep this far from the capsule and from one another, so that they stay separate components on 3 mm slices.
_CAPSULE_MM = 0.6
_GAP_MM = 4.0
_TRIES = 1500


@dataclass(frozen=True)
class Gland:
    """Whole gland, transition zone inside it, and lesions by decreasing volume. Peripheral zone = gland less TZ."""

    whole: Ellipsoid
    transition_zone: Ellipsoid
    lesions: tuple[Ellipsoid, ...]


def draw_gland(seed: int, lesion_volumes_cm3: tuple[float, ...]) -> Gland:
    """A gland of 20 to 90 cm3 near the origin. Gland and zones depend on the seed alone, not on the lesions."""
    rng = generator(seed, Stream.GLAND)
    volume_cm3 = float(np.exp(rng.uniform(math.log(20), math.log(90))))
    width, height = rng.uniform(1.15, 1.35), rng.uniform(0.82, 0.95)
    tilt = rotation(x_deg=rng.uniform(-16, -4), y_deg=rng.uniform(-3, 3), z_deg=rng.uniform(-4, 4))
    center = tuple(float(v) for v in rng.uniform(-3, 3, size=3))
    whole = ellipsoid_of_volume(volume_cm3, (width, height, rng.uniform(0.95, 1.1)), center_lps=center, axes=tilt)
    transition_zone = _draw_transition_zone(rng, whole)
    lesions: list[Ellipsoid] = []
    for number, volume in enumerate(_checked_volumes(lesion_volumes_cm3)):
        lesion_rng = generator(seed, Stream.LESION, number)
        lesions.append(_place_lesion(lesion_rng, volume, whole, transition_zone, lesions, seed))
    return Gland(whole, transition_zone, tuple(lesions))


def ellipsoid_of_volume(
    volume_cm3: float, proportions: tuple[float, float, float], *, center_lps: tuple[float, float, float], axes
) -> Ellipsoid:
    """The ellipsoid of exactly that volume whose half-axes stand in the given proportions."""
    scale = (volume_cm3 * 1000 * 3 / (4 * math.pi * math.prod(proportions))) ** (1 / 3)
    return Ellipsoid(center_lps, tuple(float(scale * p) for p in proportions), axes)


def _draw_transition_zone(rng: np.random.Generator, whole: Ellipsoid) -> Ellipsoid:
    """About 35 % of a small gland, 65 % of a large one (hyperplasia grows the TZ), shifted forward and up."""
    size = (whole.volume_cm3 - 20) / 70
    share = float(np.clip(0.33 + 0.3 * size + rng.normal(0, 0.03), 0.28, 0.65))
    fractions = np.array([1.02, 0.92, 1.0]) * (share / (1.02 * 0.92)) ** (1 / 3)
    radii = tuple(float(r) for r in fractions * np.asarray(whole.radii_mm))
    for step in np.linspace(1.0, 0.0, 41):
        # Unit-ball coordinates of the gland: -y is anterior, +z is the base.
        center = whole.from_unit_sphere(np.array([0.0, -0.6 * step, 0.12 * step]))
        zone = Ellipsoid(tuple(float(v) for v in center), radii, whole.axes)
        if whole.holds(zone, margin_mm=0.8):
            break
    return zone  # the last step is concentric and always fits: its half-axes are at most 0.9 of the gland's


def _checked_volumes(volumes_cm3: tuple[float, ...]) -> list[float]:
    """The volumes in decreasing order; L1 is the largest lesion."""
    volumes = [float(v) for v in volumes_cm3]
    for volume in volumes:
        if not (math.isfinite(volume) and volume > 0):
            raise ProstateXferError(f"A lesion volume of {volume:g} cm3 is impossible; give volumes above zero.")
    return sorted(volumes, reverse=True)


def _place_lesion(
    rng: np.random.Generator, volume_cm3: float, whole: Ellipsoid, zone: Ellipsoid, others: list[Ellipsoid], seed: int
) -> Ellipsoid:
    """A lesion of exactly that volume within the gland and apart from the others, in the peripheral zone if it fits."""
    if volume_cm3 < whole.volume_cm3:
        for attempt in range(_TRIES):
            # First insist on the posterior peripheral zone, then on some of it, in the end take any free place.
            wanted_share = 0.7 if attempt < _TRIES // 3 else 0.35 if attempt < 2 * _TRIES // 3 else 0.0
            lesion = _random_lesion(rng, volume_cm3, whole, posterior=wanted_share > 0)
            if (
                whole.holds(lesion, margin_mm=_CAPSULE_MM)
                and all(lesion.is_apart_from(other, gap_mm=_GAP_MM) for other in others)
                and _share_outside(lesion, zone) >= wanted_share
            ):
                return lesion
    beside = f" beside {len(others)} larger lesion{'s' if len(others) > 1 else ''}" if others else ""
    raise ProstateXferError(
        f"A lesion of {volume_cm3:g} cm3 does not fit into the prostate of {whole.volume_cm3:.1f} cm3 that seed {seed} "
        f"draws{beside}; ask for smaller or fewer lesions, or use another seed."
    )


def _random_lesion(rng: np.random.Generator, volume_cm3: float, whole: Ellipsoid, *, posterior: bool) -> Ellipsoid:
    """A lentil of that volume somewhere in the gland, flat side along the capsule."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    if posterior:
        direction[1] = abs(direction[1])
    center = whole.from_unit_sphere(direction * rng.uniform(0, 1) ** (1 / 3))
    # The gradient of the ellipsoid's equation points to the capsule; the lentil's short axis follows it.
    outward = (direction / np.asarray(whole.radii_mm)) @ np.asarray(whole.axes)
    outward /= np.linalg.norm(outward)
    sideways = np.cross(outward, rng.normal(size=3))
    sideways /= np.linalg.norm(sideways)
    axes = as_matrix(np.stack([outward, sideways, np.cross(outward, sideways)]))
    proportions = (rng.uniform(0.65, 0.9), rng.uniform(1.0, 1.35), rng.uniform(0.9, 1.1))
    return ellipsoid_of_volume(
        volume_cm3, tuple(map(float, proportions)), center_lps=tuple(float(v) for v in center), axes=axes
    )


def _share_outside(lesion: Ellipsoid, zone: Ellipsoid) -> float:
    """Fraction of the lesion that lies outside the transition zone, from concentric samples."""
    shells = np.concatenate([Ellipsoid(lesion.center_lps, tuple(r * s for r in lesion.radii_mm), lesion.axes)
                             .surface_points(60) for s in (0.55, 0.8, 0.95)])  # fmt: skip
    return float(1 - zone.contains(shells).mean())
