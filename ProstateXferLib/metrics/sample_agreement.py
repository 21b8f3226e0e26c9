# SPDX-License-Identifier: Apache-2.0
"""How far the samples of a segmentation agree on a structure: volumes, and which lesions each of them sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.sampled_labels import StructureMasks

SEEN_IOU = 0.1
"""Least intersection over union of two components that show one lesion: PI-CAI's criterion for a hit (Saha et al.,
Lancet Oncol 2024;25:879-887)."""


@dataclass(frozen=True, kw_only=True)
class SampleAgreement:
    """What the samples that know a structure say about it.

    Attributes:
        samples: how many know it; two at least.
        volume_low_cm3, volume_high_cm3: least and largest volume of the whole structure among them, 0 where one of
            them finds none. A range over so many voices and no confidence interval.
        seen_by: how many see any component of the result; None where the result has none.
        components_seen_by: how many see each component of the result, from the largest.
    """

    samples: int
    volume_low_cm3: float
    volume_high_cm3: float
    seen_by: int | None
    components_seen_by: tuple[int, ...]


def sample_agreement(masks: StructureMasks) -> SampleAgreement | None:
    """Compare a structure in the result with the samples; None where fewer than two know it: one voice agrees with
    itself.

    A sample sees a component when one of its own components overlaps it with an IoU of at least 0.1.
    """
    if len(masks.samples_zyx) < 2:
        return None
    volumes_cm3 = [np.count_nonzero(mask) * masks.voxel_cm3 for mask in masks.samples_zyx]
    result = ComponentMap.of(masks.result_zyx)
    numbers = np.arange(len(result.voxel_counts))
    # (samples, components of the result): whether the one sees the other
    seen = np.stack([np.isin(numbers, result.matches(ComponentMap.of(mask))[0]) for mask in masks.samples_zyx])
    return SampleAgreement(
        samples=len(masks.samples_zyx),
        volume_low_cm3=min(volumes_cm3),
        volume_high_cm3=max(volumes_cm3),
        seen_by=int(seen.any(axis=1).sum()) if seen.shape[1] else None,
        components_seen_by=tuple(seen.sum(axis=0).tolist()),
    )


@dataclass(frozen=True, eq=False)
class ComponentMap:
    """The 26-connected components of a mask: labels 1..n (z, y, x) from the largest, and the voxels of each."""

    labels_zyx: np.ndarray
    voxel_counts: np.ndarray

    @classmethod
    def of(cls, mask_zyx: np.ndarray) -> ComponentMap:
        """The components of a bool array (z, y, x)."""
        labels, count = components_by_volume(mask_zyx)
        return cls(labels, np.bincount(labels.ravel(), minlength=count + 1)[1:])

    def matches(self, other: ComponentMap) -> tuple[np.ndarray, np.ndarray]:
        """Numbers from 0 of the components, of this and of the other map (same shape), that show one lesion: pairs.

        One walk over the voxels that both hold, however many components there are: a noisy sample may have thousands.
        """
        both = (self.labels_zyx > 0) & (other.labels_zyx > 0)
        width = np.int64(max(len(other.voxel_counts), 1))
        pairs = (self.labels_zyx[both] - 1) * width + (other.labels_zyx[both] - 1)
        pair, shared = np.unique(pairs, return_counts=True)
        mine, its = np.divmod(pair, width)
        union = self.voxel_counts[mine] + other.voxel_counts[its] - shared
        hit = shared / union >= SEEN_IOU
        return mine[hit], its[hit]
