# SPDX-License-Identifier: Apache-2.0
"""NCI-ISBI 2013 challenge: T2w series of Prostate-3T (RUNMC) and PROSTATE-DIAGNOSIS (BMC), with zones as label images.

    FOLDER/
      ANY/Prostate3T-01-0001/STUDY/SERIES/*.dcm      as the NBIA Data Retriever leaves them, at any depth
      ANY/ProstateDx-01-0001/STUDY/SERIES/*.dcm
      Training/Prostate3T-01-0001.nrrd               the three zips of labels, unpacked; .nii.gz serves as well
      Leaderboard/ProstateDx-01-0002_truth.nrrd      the words after the patient's id differ ("_correctedLabels")
      Test/...

A case is a patient with a label image. Structures: Prostate (both zones together), Peripheral zone (value 1),
Transition zone (value 2, the challenge's central gland); two public readers of the files agree on the values.

Sites: RUNMC (3 T, surface coil) and BMC (1.5 T, endorectal coil). Some labels, mostly of BMC, lie on a grid of another
slice spacing and need the option resample. Those of ProstateDx-01-0055 have 23 slices for the image's 34, at the right
place as the challenge's page says: they are always brought onto the image's grid.

Options: site (""): "RUNMC" or "BMC" alone. part (""): "training", "leaderboard" or "test" alone. series ("*"): pattern
of the description of the series to take, for patients with several. zone_values ([1, 2]): peripheral, central. resample
(false): bring all labels onto their image's grid. Attributes: site, field_strength_t, coil, part.
"""

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import image_suffix
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.dicom_series import series_header
from ProstateXferLib.training.datasets.folder_tree import (
    chosen,
    dicom_folders,
    files_below,
    folders_named,
    require_cases,
    two_values,
)
from ProstateXferLib.training.datasets.label_names import label_masks

LAYOUT = "nci-isbi-2013"
_PATIENT = re.compile(r"Prostate(3T|Dx)-\d{2}-\d{4}")
_SITES = {"3T": ("RUNMC", 3.0, "surface"), "Dx": ("BMC", 1.5, "endorectal")}
_PARTS = ("training", "leaderboard", "test")
_FEWER_LABEL_SLICES = "ProstateDx-01-0055"


def find(
    folder: Path,
    site: str = "",
    part: str = "",
    series: str = "*",
    zone_values: Sequence[int] = (1, 2),
    resample: bool = False,
) -> list[Case]:
    """Every patient with a label image.

    Raises:
        ProstateXferError: there is none, a labelled patient has no T2w series or several, or an option has a value that
            it cannot have.
    """
    chosen(site, ("", "RUNMC", "BMC"), option="site", layout=LAYOUT)
    chosen(part, ("", *_PARTS), option="part", layout=LAYOUT)
    peripheral, central = two_values(zone_values, option="zone_values", layout=LAYOUT)
    values = {
        "Prostate": tuple(sorted((peripheral, central))),
        "Peripheral zone": (peripheral,),
        "Transition zone": (central,),
    }
    drawn = _labels(folder)
    homes = folders_named(folder, drawn)
    cases = []
    for patient, labels in drawn.items():
        own_site, field_strength_t, coil = _SITES[_PATIENT.fullmatch(patient)[1]]
        attributes = {"site": own_site, "field_strength_t": field_strength_t, "coil": coil}
        if (own_part := _part(labels, folder)) is not None:
            attributes["part"] = own_part
        if (site and own_site != site) or (part and own_part != part):
            continue
        masks = label_masks(labels, values, resample=resample or patient == _FEWER_LABEL_SLICES)
        cases.append(Case(patient, patient, {"T2w": _series(homes[patient], patient, series)}, masks, attributes))
    return require_cases(cases, folder, LAYOUT, "Training/Prostate3T-01-0001.nrrd and the like")


def _labels(folder: Path) -> dict[str, Path]:
    """{patient: label image}; of two the corrected one."""
    found: dict[str, Path] = {}
    files = (path for path in files_below(folder) if image_suffix(path))
    for path in sorted(files, key=lambda p: ("correct" in p.name.lower(), p.name)):
        if match := _PATIENT.match(path.name):
            found[match[0]] = path
    return dict(sorted(found.items()))


def _part(labels: Path, folder: Path) -> str | None:
    place = labels.relative_to(folder).parent.as_posix().lower()
    return next((part for part in _PARTS if part in place), None)


def _series(homes: Sequence[Path], patient: str, pattern: str) -> Path:
    found = [series for home in homes for series in dicom_folders(home)]
    if len(found) > 1:
        headers = {path: series_header(path) for path in found}
        found = [path for path, header in headers.items() if header and fnmatch.fnmatch(header.description, pattern)]
    if len(found) != 1:
        raise ProstateXferError(
            f"'{patient}' has {len(found)} DICOM series where its T2w series was expected: download the challenge's "
            "series, or choose by the option 'series' (a pattern of the series description)."
        )
    return found[0]
