# SPDX-License-Identifier: Apache-2.0
"""One row of the measurement table."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

Vector = tuple[float, float, float]
SAMPLE_FIELDS = ("volume_low_cm3", "volume_high_cm3", "samples", "seen_by")
"""What a measurement has from samples alone, and loses with the first edit."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is known about one structure, or about one component of a lesion structure.

    `component` is 0 for the whole structure and 1, 2, ... for a lesion's components from the largest; `id` reads
    "Prostate", "DIL", "DIL L1". Positions and offsets are mm, LPS (to Left, Posterior, Superior) but for
    `centroid_ras`, which is the number a 3D Slicer slice view shows. A value that does not exist is None: everything
    geometric of an absent structure, everything about the gland where there is none, everything about a reference
    where none was given, everything about samples where there are none.
    """

    structure: str
    label: int
    component: int
    id: str
    volume_cm3: float
    voxel_count: int
    part_of: str | None = None
    """Name of the structure this one is part of, as a DIL or a zone of the prostate."""
    centroid_lps: Vector | None = None
    centroid_ras: Vector | None = None
    extent_mm: Vector | None = None
    """Size of the box around all voxel corners along the patient's L-R, A-P and S-I axes."""
    bounds_lps: tuple[Vector, Vector] | None = None
    """Least and greatest L, P, S of that box."""
    max_diameter_mm: float | None = None
    offset_from_gland_lps: Vector | None = None
    """Centroid of this minus centroid of the gland; None for the gland itself."""
    offset_from_gland_mm: float | None = None
    share_of_gland: float | None = None
    """Volume of this divided by the volume of the gland, 1 for the gland itself."""
    touches_border: bool | None = None
    """Whether a voxel lies in the outermost layer of the image: the field of view may have cut the structure."""
    dice: float | None = None
    volume_difference_cm3: float | None = None
    """Volume of this minus volume of its reference."""
    centroid_distance_mm: float | None = None
    volume_low_cm3: float | None = None
    """Least volume of the whole structure among the samples (docs/ensembles.md, Samples); None for a component."""
    volume_high_cm3: float | None = None
    samples: int | None = None
    """How many samples know the structure; None where fewer than two do, and with it all that samples tell."""
    seen_by: int | None = None
    """How many of them see this lesion, or any of its components; None for what is no lesion or was not found."""


def without_samples(rows: Iterable[Measurement]) -> list[Measurement]:
    """The rows of a segmentation that is no longer what its samples were averaged to: a person has edited it."""
    return [replace(row, **dict.fromkeys(SAMPLE_FIELDS)) for row in rows]
