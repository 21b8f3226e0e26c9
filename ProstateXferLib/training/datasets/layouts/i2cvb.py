# SPDX-License-Identifier: Apache-2.0
"""I2CVB's prostate data (Dijon): multiparametric MRI in DICOM, with the ground truth as DICOM masks on the T2w slices.

    FOLDER/
      Patient_383/                     any name; a folder with T2W in it is a patient
        T2W/*.dcm
        GT/
          prostate/*.dcm               any of these, in small or capital letters; above zero counts
          pz/*.dcm                     peripheral zone
          cg/*.dcm                     central gland (Transition zone)
          cap/*.dcm                    cancer (DIL)
        ADC/, DWI/, DCE/, MRSI/        not used: not on the T2w grid

Structures: Prostate (the zones together where it is not drawn), Peripheral zone, Transition zone, DIL.
Option: resample (false): bring masks onto the T2w image's grid. site ("I2CVB"): the attribute site.
"""

from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import holds_dicom, require_cases, subfolders

LAYOUT = "i2cvb"
_MASKS = {"prostate": "Prostate", "pz": "Peripheral zone", "cg": "Transition zone", "cap": "DIL"}
_ZONES = ("Peripheral zone", "Transition zone")


def find(folder: Path, resample: bool = False, site: str = "I2CVB") -> list[Case]:
    """Every patient with a T2w series.

    Raises:
        ProstateXferError: there is none.
    """
    cases = []
    for patient in subfolders(folder):
        t2w = _folder_called(patient, "t2w")
        if t2w is None or not holds_dicom(t2w):
            continue
        truth = _folder_called(patient, "gt")
        masks: dict[str, tuple[Mask, ...]] = {}
        for name, structure in _MASKS.items():
            drawn = None if truth is None else _folder_called(truth, name)
            if drawn is not None and holds_dicom(drawn):
                masks[structure] = (Mask(drawn, resample=resample),)
        if "Prostate" not in masks and all(zone in masks for zone in _ZONES):
            masks["Prostate"] = tuple(mask for zone in _ZONES for mask in masks[zone])
        cases.append(Case(patient.name, patient.name, {"T2w": t2w}, masks, {"site": site}))
    return require_cases(cases, folder, LAYOUT, "PATIENT/T2W/*.dcm with PATIENT/GT/prostate/*.dcm")


def _folder_called(folder: Path, name: str) -> Path | None:
    return next((path for path in subfolders(folder) if path.name.lower() == name), None)
