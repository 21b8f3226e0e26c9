# SPDX-License-Identifier: Apache-2.0
"""A reference segmentation of anyone's making, brought to our label values and our grid to be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.images.structures import DIL, PROSTATE, Structure, generic_structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.naming import is_gland, is_lesion, resolve_structures
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.progress import Progress

_UNNAMED = {PROSTATE.value: PROSTATE, DIL.value: DIL}
_NO_CODE = generic_structure(1)
_WITHIN = 0.99
_LATTICE_TOLERANCE = 0.01  # voxels


@dataclass(frozen=True)
class Reference:
    """A reference as its file has it: label map and what its values mean; `named` is False for a bare label map."""

    labels: sitk.Image
    structures: tuple[Structure, ...]
    named: bool


@dataclass(frozen=True)
class MatchedReference:
    """The reference on the segmentation's grid in the segmentation's label values, and which values it speaks of."""

    labels: sitk.Image
    values: frozenset[int]

    def without_unknown(self, rows: Sequence[Measurement]) -> list[Measurement]:
        """The rows, without a comparison where the reference says nothing: a gland alone does not mean "no lesion"."""
        nothing = {"dice": None, "volume_difference_cm3": None, "centroid_distance_mm": None}
        return [row if row.label in self.values else replace(row, **nothing) for row in rows]


def read_reference(path: Path) -> Reference:
    """A `.seg.nrrd` with its names, or a label map in which 1 is the Prostate and 2 the DIL.

    Raises:
        ProstateXferError: not a label map.
    """
    labels, structures = read_segmentation(path)
    named = any(structure != generic_structure(structure.value) for structure in structures)
    if not named:
        structures = tuple(_UNNAMED.get(s.value, s) for s in structures)
    return Reference(labels, structures, named)


def matched_reference(reference: Reference, segmentation: Segmentation, progress: Progress) -> MatchedReference:
    """The reference in the values of our structures of the same name or meaning, nearest neighbour on our grid.

    What the user must know about it (another grid, guessed names, structures without a partner) is told as warnings.

    Raises:
        ProstateXferError: the reference lies elsewhere in the patient.
    """
    grid = Grid.of(segmentation.labels)
    labels = sitk.GetArrayFromImage(_on_grid(reference.labels, grid, progress))
    theirs_all = _understood(reference.structures)
    pairs = [(ours, _partners(ours, theirs_all)) for ours in segmentation.structures]
    matched = np.zeros(labels.shape, dtype=np.uint8)
    # Wholes before their parts, which lie over them.
    for ours, partners in sorted(pairs, key=lambda pair: _depth(pair[0], segmentation.structures)):
        for theirs in partners:
            matched[whole_structure_mask(labels, theirs, theirs_all)] = ours.value
    _tell(theirs_all, pairs, named=reference.named, progress=progress)
    return MatchedReference(grid.image(matched), frozenset(ours.value for ours, partners in pairs if partners))


def _understood(structures: Sequence[Structure]) -> tuple[Structure, ...]:
    """The structures with what their names tell where nobody gave a code ("PZ", "tumor"), and with their wholes."""
    coded = [s for s in structures if (s.category, s.type) != (_NO_CODE.category, _NO_CODE.type)]
    return resolve_structures((), {s.value: s.name for s in structures}, coded)


def _on_grid(image: sitk.Image, grid: Grid, progress: Progress) -> sitk.Image:
    """The label map on our grid; Slicer saves only a box around the segments, which must lie in our image."""
    own = Grid.of(image)
    if own.same_as(grid):
        return image
    labelled_zyx = np.argwhere(sitk.GetArrayViewFromImage(image) != 0)
    if len(labelled_zyx):
        inside = float(grid.contains(own.index_to_lps(labelled_zyx[:, ::-1])).mean())
        if not inside:
            raise ProstateXferError(
                "The reference segmentation lies outside the image: choose one of the same examination, or register it."
            )
        if inside < _WITHIN:
            progress.warn(f"Only {inside:.0%} of the reference segmentation lies within the image; the rest was left.")
    if not _same_lattice(own, grid):
        progress.warn(
            "The reference segmentation lies on another grid; it was resampled (nearest neighbour) for the comparison."
        )
    return resample_to_grid(image, grid, interpolation="nearest")


def _same_lattice(first: Grid, second: Grid) -> bool:
    """Whether voxels fall on voxels, as where one is a box cut from the other: nothing is interpolated then."""
    points_xyz = np.vstack([np.zeros(3), np.eye(3), np.asarray(first.size_xyz) - 1])
    there_xyz = second.lps_to_index(first.index_to_lps(points_xyz))
    shifted_xyz = there_xyz - points_xyz  # one whole vector for all points, if it is the same lattice
    return bool(np.abs(shifted_xyz - np.rint(shifted_xyz[0])).max() < _LATTICE_TOLERANCE)


def _partners(ours: Structure, candidates: Sequence[Structure]) -> list[Structure]:
    """What a structure is compared with: its namesake, else the same code, else the gland or all lesions of theirs."""
    if same := [s for s in candidates if s.name.casefold() == ours.name.casefold()]:
        return same[:1]
    code = (ours.type, ours.region, ours.modifier)
    if same := [s for s in candidates if (s.type, s.region, s.modifier) == code and s.type != _NO_CODE.type]:
        return same if is_lesion(ours) else same[:1]
    if is_lesion(ours):
        return [s for s in candidates if is_lesion(s)]
    if is_gland(ours) and (glands := [s for s in candidates if is_gland(s)]):
        return glands[:1]
    if is_gland(ours) and any(s.part_of == PROSTATE.name and not is_lesion(s) for s in candidates):
        return [PROSTATE]  # the zones together
    return []


def _depth(structure: Structure, structures: Sequence[Structure]) -> int:
    """How many wholes the structure lies in; a circle ends."""
    by_name = {s.name: s for s in structures}
    depth, seen = 0, {structure.name}
    while structure.part_of in by_name and structure.part_of not in seen:
        structure = by_name[structure.part_of]
        seen.add(structure.name)
        depth += 1
    return depth


def _tell(
    theirs_all: Sequence[Structure],
    pairs: Sequence[tuple[Structure, Sequence[Structure]]],
    *,
    named: bool,
    progress: Progress,
) -> None:
    if not named:
        progress.warn(
            "The reference segmentation names nothing: its value 1 was taken for the prostate and 2 for the DIL."
        )
    if alone := [ours.name for ours, partners in pairs if not partners]:
        progress.warn(f"The reference segmentation has no {', '.join(alone)}: there was nothing to compare with.")
    used = {theirs.name for _, partners in pairs for theirs in partners}
    if unused := [s.name for s in theirs_all if s.name not in used and s.part_of not in used]:
        progress.warn(f"The reference segmentation also has {', '.join(unused)}, which was not compared.")
