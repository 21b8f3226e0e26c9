# SPDX-License-Identifier: Apache-2.0
"""UCLA's Prostate-MRI-US-Biopsy of The Cancer Imaging Archive: T2w series with the gland and the targets as surfaces.

    FOLDER/
      [manifest-.../]Prostate-MRI-US-Biopsy/       as the NBIA Data Retriever leaves it, either way of naming folders
        Prostate-MRI-US-Biopsy-0001/
          STUDY/
            SERIES/*.dcm
      STLs/                                        the unpacked zip of surfaces, at any depth below FOLDER
        Prostate-MRI-US-Biopsy-0001-ProstateSurface-seriesUID-1.3.6.1.4.1....STL
        Prostate-MRI-US-Biopsy-0001-Target1-seriesUID-1.3.6.1.4.1....STL
      Target-Data_2019-12-05.xlsx                  the spreadsheet of targets (.xlsx or .csv, "Target" in its name);
                                                   needed for minimum_score only

A case is an MR series with a gland surface (those drawn on ultrasound are left out); its id is PATIENT-SERIESUID.
Structures: Prostate, and DIL from the targets: regions of interest that a radiologist drew, not proven cancer. A case
without a target has been looked at, and none was drawn. The coordinates of the surfaces are LPS mm (the option frame is
for files that were saved anew): filled that way, the two surfaces in ImagingDataCommons/idc-dicom-seg-conversions agree
with the label maps made there in 3D Slicer (Dice 0.996 and 0.997).

Options: minimum_score (0): smallest UCLA score (like PI-RADS, 1 to 5) of a target that counts as DIL; 3 is usual.
unscored ("refuse"): what becomes of targets without a score where minimum_score asks for one: "keep" or "drop". frame
("lps"): or "ras". Attributes: lesions, positive, highest_score (where there is a spreadsheet).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.dicom_series import series_header
from ProstateXferLib.training.datasets.folder_tree import (
    chosen,
    dicom_folders,
    files_below,
    folders_named,
    require_cases,
)
from ProstateXferLib.training.datasets.tables import read_rows

LAYOUT = "tcia-prostate-mri-us-biopsy"
_SURFACE = re.compile(
    r"(?P<patient>.+?)-(?P<part>ProstateSurface|Target\s?(?P<number>\d+))-seriesUID-(?P<uid>[\d.]+)\.stl", re.IGNORECASE
)


def find(folder: Path, minimum_score: int = 0, unscored: str = "refuse", frame: str = "lps") -> list[Case]:
    """Every MR series with a gland surface.

    Raises:
        ProstateXferError: there are no surfaces or none of their series, or minimum_score is asked for and the
            spreadsheet is missing or lacks a target.
    """
    chosen(frame, ("lps", "ras"), option="frame", layout=LAYOUT)
    chosen(unscored, ("refuse", "keep", "drop"), option="unscored", layout=LAYOUT)
    glands, targets = _surfaces(folder)
    scores = _scores(folder, required=minimum_score > 0)
    cases = []
    for patient, homes in folders_named(folder, sorted({patient for patient, _ in glands})).items():
        for uid, series in _mr_series(homes).items():
            if (patient, uid) not in glands:
                continue
            drawn = targets.get((patient, uid), {})
            known = {number: scores[key] for number in drawn if (key := (patient, uid, number)) in scores}
            if minimum_score > 0 and unscored == "refuse" and (unknown := sorted(set(drawn) - set(known))):
                raise ProstateXferError(
                    f"The spreadsheet of targets has no score of target {unknown[0]} of '{patient}' (series {uid}): "
                    "complete it, or set the option unscored to keep or drop such targets."
                )
            assumed = 0 if unscored == "drop" else minimum_score
            lesions = [drawn[number] for number in sorted(drawn) if known.get(number, assumed) >= minimum_score]
            masks = {"Prostate": (Mask(glands[patient, uid], frame=frame),)}
            masks["DIL"] = tuple(Mask(path, frame=frame) for path in lesions)
            attributes = {"lesions": len(lesions), "positive": int(bool(lesions))}
            attributes |= {"highest_score": max(known.values())} if known else {}
            cases.append(Case(f"{patient}-{uid}", patient, {"T2w": series}, masks, attributes))
    return require_cases(
        cases, folder, LAYOUT, "PATIENT/STUDY/SERIES/*.dcm with PATIENT-ProstateSurface-seriesUID-UID.STL"
    )


def _surfaces(folder: Path) -> tuple[dict, dict]:
    """{(patient, series UID): gland surface} and {(patient, series UID): {target number: surface}}."""
    glands: dict[tuple[str, str], Path] = {}
    targets: dict[tuple[str, str], dict[int, Path]] = {}
    for path in (path for path in files_below(folder) if path.suffix.lower() == ".stl"):
        if (match := _SURFACE.fullmatch(path.name)) is None:
            continue
        key = (match["patient"], match["uid"])
        if match["number"] is None:
            glands[key] = path
        else:
            targets.setdefault(key, {})[int(match["number"])] = path
    return glands, targets


def _mr_series(homes: Sequence[Path]) -> dict[str, Path]:
    """{series UID: folder} of the MR series in a patient's folders."""
    found = {}
    for series in (series for home in homes for series in dicom_folders(home)):
        header = series_header(series)
        if header is not None and header.modality == "MR":
            found[header.uid] = series
    return found


def _scores(folder: Path, *, required: bool) -> dict[tuple[str, str, int], float]:
    """{(patient, MR series UID, target number): UCLA score} of the spreadsheet."""
    tables = sorted(p for p in folder.iterdir() if "target" in p.name.lower() and p.suffix.lower() in (".xlsx", ".csv"))
    if not tables:
        if required:
            raise ProstateXferError(
                f"minimum_score needs the spreadsheet of targets (Target-Data_....xlsx) in '{folder}': put it there."
            )
        return {}
    scores = {}
    for row in read_rows(tables[0]):
        patient, uid, number, score = (
            _cell(row, start, tables[0]) for start in ("patient id", "seriesinstanceuid_mr", "target", "ucla score")
        )
        digits = re.search(r"\d+", number)
        if digits and re.fullmatch(r"\d+(\.\d+)?", score):
            scores[patient, uid, int(digits[0])] = float(score)
    return scores


def _cell(row: Mapping[str, str], start: str, table: Path) -> str:
    """The cell of the first column whose name begins so; several versions of the spreadsheet are about."""
    for name, text in row.items():
        if name.lower().startswith(start):
            return text
    raise ProstateXferError(f"The table '{table}' has no column that begins with '{start}': correct its header.")
