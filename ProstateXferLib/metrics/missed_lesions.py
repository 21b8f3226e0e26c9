# SPDX-License-Identifier: Apache-2.0
"""Lesions that many samples of a segmentation see and its result does not hold: averaging took them below the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ProstateXferLib.metrics.measurement import Vector
from ProstateXferLib.metrics.naming import is_lesion, resolve_structures
from ProstateXferLib.metrics.sample_agreement import ComponentMap
from ProstateXferLib.metrics.sampled_labels import SampledLabels, StructureMasks

SMALLEST_CM3 = 0.065
"""A sphere of 5 mm: two slices of a usual T2w. Timid networks make dozens of smaller specks, which warn of nothing."""


@dataclass(frozen=True, kw_only=True)
class MissedLesion:
    """A lesion of the samples that is not in the result.

    Attributes:
        structure: name of the lesion structure.
        seen_by, samples: how many of the samples that know the structure see it.
        volume_low_cm3, volume_high_cm3: least and largest volume of it among those that see it.
        centroid_lps: mean of its voxel centres in the sample that the most others agree with, mm.
    """

    structure: str
    seen_by: int
    samples: int
    volume_low_cm3: float
    volume_high_cm3: float
    centroid_lps: Vector


def missed_lesions(segmentation: Any, *, smallest_cm3: float = SMALLEST_CM3) -> list[MissedLesion]:
    """The lesions that more than half of the samples see and that no component of the result matches.

    Matching is by IoU >= 0.1 as in `sample_agreement`; fewer than two samples miss nothing. Each lesion comes once,
    those seen by most first, then from the largest.

    Args:
        segmentation: as a `Segmenter` gives it, with `.samples`; without them nothing was missed.
        smallest_cm3: what stays smaller in every sample is not told.
    """
    if not segmentation.samples:
        return []
    structures = resolve_structures((), segmentation.names, segmentation.structures)
    sampled = SampledLabels(segmentation, structures)
    return [
        lesion
        for structure in structures
        if is_lesion(structure)
        for lesion in _missed(structure.name, sampled.masks(structure))
        if lesion.volume_high_cm3 >= smallest_cm3
    ]


@dataclass(frozen=True, eq=False)
class _Candidates:
    """All components of all samples in one row: the sample of each, its number in it from 0, its voxels; and pairs."""

    maps: tuple[ComponentMap, ...]
    owner: np.ndarray
    number: np.ndarray
    voxels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    """Places in the row of two components that show one lesion; every pair both ways, each with itself, too."""

    @classmethod
    def of(cls, maps: tuple[ComponentMap, ...]) -> _Candidates:
        counts = [len(m.voxel_counts) for m in maps]
        starts = np.cumsum([0, *counts[:-1]])
        pairs = [
            tuple(numbers + start for numbers, start in zip(one.matches(other), (a, b), strict=True))
            for one, a in zip(maps, starts, strict=True)
            for other, b in zip(maps, starts, strict=True)
        ]
        return cls(
            maps,
            owner=np.repeat(np.arange(len(maps)), counts),
            number=np.concatenate([np.arange(count) for count in counts]),
            voxels=np.concatenate([m.voxel_counts for m in maps]),
            first=np.concatenate([pair[0] for pair in pairs]),
            second=np.concatenate([pair[1] for pair in pairs]),
        )

    def seen_by(self) -> np.ndarray:
        """How many samples see each component; a sample sees it once, however many of its pieces match."""
        seen = np.unique(np.stack([self.first, self.owner[self.second]]), axis=1)
        return np.bincount(seen[0], minlength=len(self.owner))

    def alike(self, place: int) -> np.ndarray:
        """Places of the components that show the same lesion as this one, itself among them."""
        return self.second[self.first == place]


def _missed(name: str, masks: StructureMasks) -> list[MissedLesion]:
    """The lesions of one structure that are missing from the result."""
    if len(masks.samples_zyx) < 2:
        return []
    found = _Candidates.of(tuple(ComponentMap.of(mask) for mask in masks.samples_zyx))
    result, seen_by = ComponentMap.of(masks.result_zyx), found.seen_by()
    held = np.concatenate([np.isin(np.arange(len(m.voxel_counts)), m.matches(result)[0]) for m in found.maps])
    missing = np.flatnonzero(~held & (2 * seen_by > len(found.maps)))
    missed, told = [], set()
    for place in sorted(missing.tolist(), key=lambda p: (-seen_by[p], -found.voxels[p], p)):
        if place in told:
            continue
        alike = found.alike(place)
        told.update(alike.tolist())
        # A sample may show the lesion in pieces.
        volumes_cm3 = np.bincount(found.owner[alike], weights=found.voxels[alike]) * masks.voxel_cm3
        missed.append(
            MissedLesion(
                structure=name,
                seen_by=int(seen_by[place]),
                samples=len(found.maps),
                volume_low_cm3=float(volumes_cm3[volumes_cm3 > 0].min()),
                volume_high_cm3=float(volumes_cm3.max()),
                centroid_lps=_centroid_lps(found.maps[found.owner[place]], int(found.number[place]) + 1, masks),
            )
        )
    return missed


def _centroid_lps(components: ComponentMap, number: int, masks: StructureMasks) -> Vector:
    """Mean of the voxel centres of one component."""
    middle_zyx = np.argwhere(components.labels_zyx == number).mean(axis=0) + masks.start_zyx
    left, posterior, superior = masks.grid.index_to_lps(middle_zyx[::-1])
    return (float(left), float(posterior), float(superior))
