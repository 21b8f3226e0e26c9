# SPDX-License-Identifier: Apache-2.0
"""PI-CAI's public training and development set, with the repository of its labels beside it.

    FOLDER/
      images/                                    the unpacked folds, together or each in a folder of its own
        10000/10000_1000000_t2w.mha              PATIENT/PATIENT_STUDY_SEQUENCE: t2w, adc, hbv, cor, sag
      picai_labels/                              github.com/DIAGNijmegen/picai_labels
        csPCa_lesion_delineations/
          human_expert/resampled/10000_1000000.nii.gz     1,295 studies; the value is the ISUP grade
          human_expert/Pooch25/...                        205 more positive studies (2025)
          AI/Bosma22a/...                                 csPCa found by AI, all studies
        anatomical_delineations/
          whole_gland/AI/{Bosma22b,Guerbet23}/...
          zonal_pz_tz/AI/{HeviAI23,Yuan23}/...            1 peripheral, 2 transition zone
        clinical_information/marksheet.csv

A case is a study. Structures: Prostate, DIL, and the zones if asked for. A study for which none of the chosen lesion
folders has a file is not annotated, unless the marksheet says that it has no csPCa: then none was found.

Options: labels ("picai_labels"): the labels' folder. lesions (["resampled", "Pooch25"]): delineations in the order in
which they count, of resampled, Pooch25, Bosma22a; [] for none. lesion_values ([2, 3, 4, 5]): ISUP grades that count, in
"resampled" (the others are yes or no). gland ("Bosma22b"): or "Guerbet23", "" for none. zones (""): "Yuan23" or
"HeviAI23". sequences (["T2w", "ADC", "HBV"]): those that a case must have. site (""): RUMC, ZGT or PCNN alone. resample
(false): bring labels on another grid onto the T2w image's (HeviAI23 is cropped).
Attributes of the marksheet: positive (csPCa), isup, lesions (with ISUP 2 or more), site.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import chosen, require_cases, require_folder
from ProstateXferLib.training.datasets.label_names import label_masks
from ProstateXferLib.training.datasets.tables import read_rows

LAYOUT = "picai"
_FILES = {"T2w": "t2w", "ADC": "adc", "HBV": "hbv", "T2w coronal": "cor", "T2w sagittal": "sag"}
_LESIONS = {"resampled": "human_expert/resampled", "Pooch25": "human_expert/Pooch25", "Bosma22a": "AI/Bosma22a"}
_GLANDS = ("", "Bosma22b", "Guerbet23")
_ZONES = ("", "Yuan23", "HeviAI23")
_CSPCA = 2  # clinically significant cancer: ISUP grade group 2 or more (Saha et al. 2024)


def find(
    folder: Path,
    labels: str = "picai_labels",
    lesions: Sequence[str] = ("resampled", "Pooch25"),
    lesion_values: Sequence[int] = (2, 3, 4, 5),
    gland: str = "Bosma22b",
    zones: str = "",
    sequences: Sequence[str] = ("T2w", "ADC", "HBV"),
    site: str = "",
    resample: bool = False,
) -> list[Case]:
    """Every study with the sequences asked for.

    Raises:
        ProstateXferError: there is none, a folder of labels is missing, or an option has a value that it cannot have.
    """
    chosen(gland, _GLANDS, option="gland", layout=LAYOUT)
    chosen(zones, _ZONES, option="zones", layout=LAYOUT)
    for name in lesions:
        chosen(name, _LESIONS, option="lesions", layout=LAYOUT)
    for name in sequences:
        chosen(name, _FILES, option="sequences", layout=LAYOUT)
    root = folder / labels
    lesion_folders = {name: root / "csPCa_lesion_delineations" / _LESIONS[name] for name in lesions}
    anatomy = root / "anatomical_delineations"
    glands = anatomy / "whole_gland" / "AI" / gland if gland else None
    zonal = anatomy / "zonal_pz_tz" / "AI" / zones if zones else None
    for needed in (*lesion_folders.values(), glands, zonal):
        if needed is not None:
            require_folder(needed, LAYOUT, "from github.com/DIAGNijmegen/picai_labels")
    marks = _marksheet(root / "clinical_information" / "marksheet.csv")
    cases = []
    for study, images in _studies(folder, sequences).items():
        attributes = marks.get(study, {})
        if site and attributes.get("site") != site:
            continue
        masks: dict[str, tuple[Mask, ...]] = {}
        if glands is not None and (file := glands / f"{study}.nii.gz").is_file():
            masks["Prostate"] = (Mask(file, resample=resample),)
        if zonal is not None and (file := zonal / f"{study}.nii.gz").is_file():
            masks |= label_masks(file, {"Peripheral zone": (1,), "Transition zone": (2,)}, resample=resample)
        masks |= _lesion_mask(study, lesion_folders, tuple(lesion_values), attributes, resample)
        cases.append(Case(study, study.partition("_")[0], images, masks, attributes))
    return require_cases(cases, folder, LAYOUT, "images/PATIENT/PATIENT_STUDY_t2w.mha (with the other sequences)")


def _studies(folder: Path, sequences: Sequence[str]) -> dict[str, dict[str, Path]]:
    """{PATIENT_STUDY: {sequence: file}} of the studies that have all of them."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    first = f"_{_FILES[sequences[0]]}.mha" if sequences else "_t2w.mha"
    found = sorted({*images.glob(f"*/*{first}"), *images.glob(f"*/*/*{first}")}, key=lambda path: path.name)
    studies = {}
    for path in found:
        study = path.name.removesuffix(first)
        files = {name: path.with_name(f"{study}_{_FILES[name]}.mha") for name in sequences}
        if all(file.is_file() for file in files.values()):
            studies[study] = files
    return studies


def _lesion_mask(
    study: str, folders: Mapping[str, Path], values: tuple[int, ...], attributes: Mapping, resample: bool
) -> dict[str, tuple[Mask, ...]]:
    for name, folder in folders.items():
        if (file := folder / f"{study}.nii.gz").is_file():
            return {"DIL": (Mask(file, values if name == "resampled" else (), resample=resample),)}
    found_none = bool(folders) and attributes.get("positive") == 0 and min(values, default=0) >= _CSPCA
    return {"DIL": ()} if found_none else {}


def _marksheet(path: Path) -> dict[str, dict[str, str | int]]:
    """{PATIENT_STUDY: attributes}; the columns that older versions lack are left out."""
    if not path.is_file():
        return {}
    marks = {}
    for row in read_rows(path, ("patient_id", "study_id")):
        attributes: dict[str, str | int] = {}
        if row.get("case_csPCa"):
            attributes["positive"] = int(row["case_csPCa"].upper() in ("YES", "1", "TRUE"))
        if row.get("case_ISUP", "").isdigit():
            attributes["isup"] = int(row["case_ISUP"])
        if "lesion_ISUP" in row:
            grades = (grade.strip() for grade in row["lesion_ISUP"].split(","))
            attributes["lesions"] = sum(1 for grade in grades if grade.isdigit() and int(grade) >= _CSPCA)
        if row.get("center"):
            attributes["site"] = row["center"]
        marks[f"{row['patient_id']}_{row['study_id']}"] = attributes
    return marks
