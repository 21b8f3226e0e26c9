# SPDX-License-Identifier: Apache-2.0
"""The measurement table: one row for each structure and for each component of a lesion structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.masks import bounding_box, check_same_grid
from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.naming import gland_of, is_lesion, resolve_structures
from ProstateXferLib.metrics.pieces import Piece
from ProstateXferLib.metrics.sample_agreement import SampleAgreement, sample_agreement
from ProstateXferLib.metrics.sampled_labels import SampledLabels

__all__ = ["Measurement", "measure"]


def measure(labels: Any, names: Mapping[int, str] | None = None, reference: Any = None) -> list[Measurement]:
    """Measure every structure of a label map, and every component of its lesions.

    `labels` is an integer `SimpleITK.Image`, or an object with `.labels`, `.names` and `.structures` as a Segmenter
    returns it; `reference` is another one on the same grid, in which the same values mean the same structures.
    Without `names` 1 is the Prostate, 2 the DIL and n "Label n". Rows come by label value; a lesion has a row for the
    whole and then one for each 26-connected component from the largest ("DIL", "DIL L1", "DIL L2").

    * A DIL is part of the prostate: the gland's row includes the lesion components that touch it, although a label
      map gives their voxels the lesion's value. A component apart from the gland does not count as gland. Where only
      the zones are labelled there is no gland.
    * A structure that is named, or is in the reference, and has no voxel gets a row with volume 0.
    * With a reference, a whole structure is compared with the same whole structure: Dice is 0 if it was missed and 1
      if it is absent from both. A lesion component is compared with the reference component it overlaps most; if it
      overlaps none, with the one whose centroid is nearest (Dice 0 and a distance); if the reference has no lesion,
      with nothing (Dice 0, no distance). Two components may have the same partner and a missed reference lesion has
      no row of its own: this does not count detections.
    * With `.samples` (what each ensemble member, fold or mirroring found alone) a structure has the range of their
      volumes, and a lesion and each of its components how many samples see it (docs/ensembles.md, Samples).
    """
    image = _label_image(labels, "label map")
    truth = None if reference is None else _label_image(reference, "reference")
    if truth is not None:
        check_same_grid(image, truth, ("label map", "reference"))
    study = _Study(image, truth)
    named = names if names is not None else getattr(labels, "names", None)
    structures = resolve_structures(study.values, named, getattr(labels, "structures", None) or ())
    gland = gland_of(structures)
    gland_piece = None if gland is None else study.whole(gland, structures)
    if gland_piece is not None and not gland_piece.voxel_count:
        gland_piece = None
    sampled = SampledLabels(labels, structures) if getattr(labels, "samples", ()) else None
    rows = []
    for structure in structures:
        whole = gland_piece if structure is gland and gland_piece else study.whole(structure, structures)
        partner = None if truth is None else study.whole_reference(structure, structures)
        found = [_row(structure, 0, whole, gland=gland_piece, reference=partner)]
        if is_lesion(structure):
            found += _component_rows(structure, whole, gland_piece, partner)
        agreement = None if sampled is None else sample_agreement(sampled.masks(structure))
        rows += found if agreement is None else _with_samples(found, agreement)
    return rows


class _Study:
    """Label map and reference, cut to the box around all labels: glands fill a hundredth of their image."""

    def __init__(self, image: sitk.Image, reference: sitk.Image | None) -> None:
        self._grid = Grid.of(image)
        arrays = [sitk.GetArrayViewFromImage(i) for i in (image, reference) if i is not None]
        occupied = np.logical_or.reduce([array != 0 for array in arrays])
        box = bounding_box(occupied) or (slice(0, 1),) * 3
        self._start_zyx = tuple(axis.start for axis in box)
        # Copies: a view must not outlive the image it looks into.
        cropped = [array[box].copy() for array in arrays]
        self._labels, self._reference = cropped[0], cropped[1] if reference is not None else None
        self.values = sorted({int(value) for array in cropped for value in np.unique(array)} - {0})

    def whole(self, structure: Structure, structures: Sequence[Structure]) -> Piece:
        """The structure in the label map with the parts that touch it."""
        return self._piece(self._labels, structure, structures)

    def whole_reference(self, structure: Structure, structures: Sequence[Structure]) -> Piece:
        """The same in the reference."""
        return self._piece(self._reference, structure, structures)

    def _piece(self, labels_zyx: np.ndarray, structure: Structure, structures: Sequence[Structure]) -> Piece:
        mask_zyx = whole_structure_mask(labels_zyx, structure, structures)
        return Piece.of(mask_zyx, self._start_zyx, self._grid)


def _label_image(labels: Any, what: str) -> sitk.Image:
    """The label map of a segmentation, or the image itself, refused where its voxels cannot be label values."""
    image = getattr(labels, "labels", labels)
    if not isinstance(image, sitk.Image):
        raise ProstateXferError(
            f"The {what} is a {type(image).__name__}; pass a SimpleITK image of labels, which knows its geometry."
        )
    if image.GetDimension() != 3:
        raise ProstateXferError(f"The {what} has {image.GetDimension()} dimensions; a 3-D label map is needed.")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ProstateXferError(
            f"The {what} has {image.GetNumberOfComponentsPerPixel()} values a voxel (colours or probabilities); a "
            "label map with one value a voxel is needed."
        )
    if not np.issubdtype(sitk.GetArrayViewFromImage(image).dtype, np.integer):
        raise ProstateXferError(
            f"The {what} holds {image.GetPixelIDTypeAsString()}s; labels are whole numbers, so threshold "
            "probabilities or cast the image to an integer type first."
        )
    return image


def _component_rows(
    structure: Structure, whole: Piece, gland: Piece | None, reference: Piece | None
) -> list[Measurement]:
    """One row for each component of a lesion structure, from the largest."""
    candidates = [] if reference is None else reference.components()
    rows = []
    for number, component in enumerate(whole.components(), start=1):
        partner = None
        if reference is not None:
            partner = _partner(component, candidates) or _nothing(component.grid)
        rows.append(_row(structure, number, component, gland=gland, reference=partner))
    return rows


def _with_samples(rows: Sequence[Measurement], agreement: SampleAgreement) -> list[Measurement]:
    """The rows of one structure, whole and components, with what its samples say."""
    whole = replace(
        rows[0],
        volume_low_cm3=agreement.volume_low_cm3,
        volume_high_cm3=agreement.volume_high_cm3,
        samples=agreement.samples,
        seen_by=agreement.seen_by if len(rows) > 1 else None,
    )
    # Anatomy has no rows for its components, whose numbers stay unused.
    components = zip(rows[1:], agreement.components_seen_by, strict=False)
    return [whole, *(replace(row, samples=agreement.samples, seen_by=seen) for row, seen in components)]


def _partner(component: Piece, candidates: Sequence[Piece]) -> Piece | None:
    """The candidate with the largest overlap, else with the nearest centroid; None without candidates."""
    if not candidates:
        return None
    shared = [component.shared_voxels(candidate) for candidate in candidates]
    if max(shared) > 0:
        return candidates[shared.index(max(shared))]
    return min(candidates, key=lambda candidate: math.dist(component.centroid_lps, candidate.centroid_lps))


def _nothing(grid: Grid) -> Piece:
    """A piece without a voxel."""
    return Piece(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0), grid)


def _row(
    structure: Structure, component: int, piece: Piece, *, gland: Piece | None, reference: Piece | None
) -> Measurement:
    """The row of one piece; the gland and the reference are None where there are none."""
    values: dict[str, Any] = {"voxel_count": piece.voxel_count, "volume_cm3": piece.volume_cm3}
    if piece.voxel_count:
        values |= _geometry(piece)
        values |= _relation_to_gland(piece, gland) if gland is not None else {}
    if reference is not None:
        values |= _comparison(piece, reference)
    return Measurement(
        structure=structure.name,
        label=structure.value,
        component=component,
        id=f"{structure.name} L{component}" if component else structure.name,
        part_of=structure.part_of,
        **values,
    )


def _geometry(piece: Piece) -> dict[str, Any]:
    """Where the piece is and how large."""
    least, greatest = piece.bounds_lps
    left, posterior, superior = piece.centroid_lps
    return {
        "centroid_lps": (left, posterior, superior),
        "centroid_ras": (0.0 - left, 0.0 - posterior, superior),  # -x would make -0.0 of 0.0
        "extent_mm": tuple(high - low for low, high in zip(least, greatest, strict=True)),
        "bounds_lps": (least, greatest),
        "max_diameter_mm": piece.max_diameter_mm,
        "touches_border": piece.touches_border,
    }


def _relation_to_gland(piece: Piece, gland: Piece) -> dict[str, Any]:
    """Where the piece lies in the gland; the gland itself only has its share of 1."""
    share = {"share_of_gland": piece.voxel_count / gland.voxel_count}
    if piece is gland:
        return share
    offset = tuple(mine - its for mine, its in zip(piece.centroid_lps, gland.centroid_lps, strict=True))
    return share | {"offset_from_gland_lps": offset, "offset_from_gland_mm": math.hypot(*offset)}


def _comparison(piece: Piece, reference: Piece) -> dict[str, Any]:
    """How the piece differs from its reference."""
    both = piece.voxel_count and reference.voxel_count
    return {
        "dice": piece.dice(reference),
        "volume_difference_cm3": piece.volume_cm3 - reference.volume_cm3,
        "centroid_distance_mm": math.dist(piece.centroid_lps, reference.centroid_lps) if both else None,
    }
