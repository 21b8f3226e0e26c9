# SPDX-License-Identifier: Apache-2.0
"""Whole-body MRI as SAP trains on it: stations stitched, DWI and ADC on the T1w grid, bones and lesions as label maps.

    FOLDER/
      SUBJECT/
        SCAN/                     one folder a scan (a site, a date)
          t1w.nii.gz              T1w, all stations stitched
          dwi.nii.gz              DWI b1000, resampled to the T1w grid
          adc.nii.gz              optional
          skeleton.nii.gz         1 cervical, 2 thoracic, 3 lumbar spine, 4 pelvis, 5 femur, 6 humerus, 7 scapula,
                                  8 clavicle, 9 sternum
          lesions.nii.gz          0, then a number for each lesion
      scans.csv                   optional: columns subject, scan, lesions, site (more become attributes as well)

A case is a scan, called SUBJECT-SCAN; the patient is the subject. .nrrd and .mha serve as well. Structures: the nine
bones by name ("Cervical spine", "Thoracic spine", "Lumbar spine", "Pelvis", "Femur", "Humerus", "Scapula", "Clavicle",
"Sternum"), "Bone" (all of them) and "Bone lesion". What is not there was not annotated. Splits balanced by the number
of lesions (SAP: 7 folds) need it in scans.csv, since finding cases reads no voxels.

Options: sequences (["T1w", "DWI"]): those that a scan must have. annotated (""): "skeleton" or "lesions": scans with
that label map alone.
"""

from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import chosen, image_named, require_cases, subfolders
from ProstateXferLib.training.datasets.label_names import label_masks
from ProstateXferLib.training.datasets.tables import number_or_text, read_rows

LAYOUT = "wb-mri"
BONES = (
    "Cervical spine",
    "Thoracic spine",
    "Lumbar spine",
    "Pelvis",
    "Femur",
    "Humerus",
    "Scapula",
    "Clavicle",
    "Sternum",
)
LESION = "Bone lesion"
_FILES = {"T1w": "t1w", "DWI": "dwi", "ADC": "adc"}
_BONE_VALUES = {name: (value,) for value, name in enumerate(BONES, start=1)}


def find(folder: Path, sequences: Sequence[str] = ("T1w", "DWI"), annotated: str = "") -> list[Case]:
    """Every scan with the sequences asked for.

    Raises:
        ProstateXferError: there is none, the table of scans lacks a column, or an option has a value it cannot have.
    """
    for name in sequences:
        chosen(name, _FILES, option="sequences", layout=LAYOUT)
    chosen(annotated, ("", "skeleton", "lesions"), option="annotated", layout=LAYOUT)
    attributes = _attributes(folder / "scans.csv")
    cases = []
    for subject in subfolders(folder):
        for scan in subfolders(subject):
            images = {name: file for name in sequences if (file := image_named(scan, _FILES[name]))}
            if len(images) < len(sequences) or (annotated and image_named(scan, annotated) is None):
                continue
            own = attributes.get((subject.name, scan.name), {})
            cases.append(Case(f"{subject.name}-{scan.name}", subject.name, images, _masks(scan), own))
    return require_cases(cases, folder, LAYOUT, "SUBJECT/SCAN/t1w.nii.gz with dwi.nii.gz")


def _masks(scan: Path) -> dict[str, tuple[Mask, ...]]:
    masks: dict[str, tuple[Mask, ...]] = {}
    if skeleton := image_named(scan, "skeleton"):
        masks |= label_masks(skeleton, _BONE_VALUES) | {"Bone": (Mask(skeleton),)}
    if lesions := image_named(scan, "lesions"):
        masks[LESION] = (Mask(lesions),)
    return masks


def _attributes(table: Path) -> dict[tuple[str, str], dict[str, str | int | float]]:
    if not table.is_file():
        return {}
    return {
        (row.pop("subject"), row.pop("scan")): {name: number_or_text(text) for name, text in row.items() if text}
        for row in read_rows(table, ("subject", "scan"))
    }
