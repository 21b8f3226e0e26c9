# SPDX-License-Identifier: Apache-2.0
"""What each sample (ensemble member, fold or mirroring) found, beside the result that was made of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.masks import bounding_box, check_same_grid
from ProstateXferLib.metrics.naming import resolve_structures


@dataclass(frozen=True, eq=False)
class StructureMasks:
    """One whole structure in the result and in every sample that knows it: bool arrays (z, y, x) of one shape.

    They are cut from the image at voxel `start_zyx` of `grid`.
    """

    result_zyx: np.ndarray
    samples_zyx: tuple[np.ndarray, ...]
    start_zyx: tuple[int, int, int]
    grid: Grid

    @property
    def voxel_cm3(self) -> float:
        """Volume of one voxel."""
        return self.grid.voxel_volume_mm3 / 1000


class SampledLabels:
    """The label maps of a segmentation and its samples, cut to the box around all that any of them found.

    Args:
        segmentation: an object with `.labels` and `.samples`, each of these with `.name`, `.labels` on the same grid
            and `.structures`, as a `Segmenter` gives it. The values of a sample are its own: structures are matched by
            name.
        structures: what the values of the result mean.

    Raises:
        ProstateXferError: a sample lies on another grid.
    """

    def __init__(self, segmentation: Any, structures: Sequence[Structure]) -> None:
        samples = tuple(segmentation.samples)
        for sample in samples:
            check_same_grid(segmentation.labels, sample.labels, ("label map", f"sample '{sample.name}'"))
        self._grid = Grid.of(segmentation.labels)
        images = [segmentation.labels, *(sample.labels for sample in samples)]
        # One array view at a time: the views of many large images together are as large as these.
        occupied = np.zeros(self._grid.shape_zyx, dtype=bool)
        for image in images:
            occupied |= sitk.GetArrayViewFromImage(image) != 0
        box = bounding_box(occupied) or (slice(0, 1),) * 3
        self._start_zyx = tuple(axis.start for axis in box)
        self._labels, *self._sample_labels = (sitk.GetArrayViewFromImage(image)[box].copy() for image in images)
        self._structures = tuple(structures)
        self._sample_structures = [resolve_structures((), None, sample.structures) for sample in samples]
        # A caller may have given the result's values other names than the model, whose names the samples have.
        self._known_as = {s.value: s.name for s in getattr(segmentation, "structures", None) or ()}

    def masks(self, structure: Structure) -> StructureMasks:
        """The structure with the parts that touch it, in the result and in the samples that know its name."""
        name = self._known_as.get(structure.value, structure.name)
        found = []
        for labels_zyx, structures in zip(self._sample_labels, self._sample_structures, strict=True):
            own = next((s for s in structures if s.name == name), None)
            if own is not None:
                found.append(whole_structure_mask(labels_zyx, own, structures))
        result = whole_structure_mask(self._labels, structure, self._structures)
        return StructureMasks(result, tuple(found), self._start_zyx, self._grid)
