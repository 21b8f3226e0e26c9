# SPDX-License-Identifier: Apache-2.0
"""One folder a case, the files named by what they show; the endings may be any that this software reads.

    FOLDER/
      CASE/
        t2w.nii.gz            images: t2w, adc, hbv, dwi, t1w, mr, ct, cbct (at least one); a DICOM folder
        adc.nii.gz            named like that (CASE/t2w/*.dcm) serves as well
        gland.nii.gz          masks on the first image's grid, in the order above; everything above zero counts:
        lesion.nii.gz         gland (Prostate), lesion (DIL), body, bladder, rectum; zones: 1 peripheral,
        zones.nii.gz          2 transition
      cases.csv               optional: columns case_id, patient_id; the others become attributes (lesions, site, ...)

Every folder that holds an image is a case, and a patient of its own unless cases.csv says otherwise. Folders without an
image are left out.

Options: require ([]): images or masks, by file name without ending, that a case must have; others are left out.
zone_values ([1, 2]): label values of the peripheral and the transition zone. lesion_values ([]): label values that
count as lesion.
"""

from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import (
    holds_dicom,
    image_named,
    require_cases,
    subfolders,
    two_values,
)
from ProstateXferLib.training.datasets.label_names import label_masks
from ProstateXferLib.training.datasets.tables import number_or_text, read_rows

_PATIENT = "patient_id"
_IMAGES = {
    "t2w": "T2w",
    "adc": "ADC",
    "hbv": "HBV",
    "dwi": "DWI",
    "t1w": "T1w",
    "mr": "MR",
    "ct": "CT",
    "cbct": "CBCT",
}
_MASKS = {"gland": "Prostate", "lesion": "DIL", "body": "Body", "bladder": "Bladder", "rectum": "Rectum"}


def find(
    folder: Path,
    require: Sequence[str] = (),
    zone_values: Sequence[int] = (1, 2),
    lesion_values: Sequence[int] = (),
) -> list[Case]:
    """Every folder with an image in it.

    Raises:
        ProstateXferError: there is none, or cases.csv is no table.
    """
    table = _table(folder / "cases.csv")
    cases = []
    for path in subfolders(folder):
        images = {name: file for stem, name in _IMAGES.items() if (file := _image(path, stem))}
        if not images or any(image_named(path, stem) is None for stem in require):
            continue
        attributes = table.get(path.name, {})
        patient = str(attributes.get(_PATIENT) or path.name)
        attributes = {name: number_or_text(text) for name, text in attributes.items() if text and name != _PATIENT}
        masks = _masks(path, zone_values, lesion_values)
        cases.append(Case(path.name, patient, images, masks, attributes))
    wanted = "/".join(require) or "t2w"
    return require_cases(cases, folder, "cases", f"CASE/{wanted}.nii.gz, with CASE/gland.nii.gz where labelled,")


def _image(folder: Path, stem: str) -> Path | None:
    found = image_named(folder, stem)
    return None if found is None or (found.is_dir() and not holds_dicom(found)) else found


def _masks(folder: Path, zone_values: Sequence[int], lesion_values: Sequence[int]) -> dict[str, tuple[Mask, ...]]:
    masks = {name: (Mask(file),) for stem, name in _MASKS.items() if (file := image_named(folder, stem))}
    if lesion_values and "DIL" in masks:
        masks["DIL"] = (Mask(masks["DIL"][0].path, tuple(lesion_values)),)
    if zones := image_named(folder, "zones"):
        peripheral, transition = two_values(zone_values, option="zone_values", layout="cases")
        masks |= label_masks(zones, {"Peripheral zone": (peripheral,), "Transition zone": (transition,)})
    return masks


def _table(path: Path) -> dict[str, dict[str, str]]:
    """{case id: its other cells}."""
    return {row.pop("case_id"): row for row in read_rows(path, ("case_id",))} if path.is_file() else {}
