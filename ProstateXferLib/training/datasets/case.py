# SPDX-License-Identifier: Apache-2.0
"""One case of a data set: files on disk and what they are, nothing read yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Mask:
    """Where a structure is drawn.

    Attributes:
        path: label image (file or DICOM folder) on the case's grid, or an STL surface in patient coordinates, mm.
        values: label values that belong to the structure; empty means every voxel above zero. A whole gland drawn as
            zones is one Mask with the zones' values.
        frame: axes of an STL surface's coordinates: "lps" (DICOM, ITK) or "ras" (3D Slicer's scene, NIfTI).
        resample: whether a label image on another grid is brought onto the case's by nearest neighbour; it is refused
            otherwise.
    """

    path: Path
    values: tuple[int, ...] = ()
    frame: str = "lps"
    resample: bool = False


@dataclass(frozen=True)
class Case:
    """One imaging study of one patient.

    Attributes:
        case_id: unique in its data set.
        patient_id: patients are never on two sides of a split.
        images: sequence name ("T2w", "ADC", "HBV", "CT", "CBCT", "T1w", "DWI") -> file or DICOM folder. The first one
            is the image whose grid the masks are drawn on.
        masks: structure name (images/structures.py, "Prostate", "DIL", ...) -> masks, united. A structure that is
            absent here was not annotated; one with an empty tuple was looked for and not found.
        attributes: what splits may be balanced by ("site", "lesions", "positive", ...); "part" says which side of a
            published split the case is on.
        channels: sequence name -> index on the fourth axis of its file, for files that hold several sequences
            (`read_sequence` takes that one volume).
    """

    case_id: str
    patient_id: str
    images: Mapping[str, Path]
    masks: Mapping[str, tuple[Mask, ...]] = field(default_factory=dict)
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
