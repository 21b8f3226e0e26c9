# SPDX-License-Identifier: Apache-2.0
"""Images without labels, for self-supervised training: every image file below the folder is a case.

    FOLDER/
      any/where/below/image.nii.gz      .nii, .nii.gz, .nrrd, .mha, .mhd
      any/where/below/series/*.dcm      with the option dicom: every folder that holds a DICOM series

A case is called after its path ("any/where/below/image"). Files of one folder belong to one patient, who is called
after it; files directly in FOLDER are patients of their own.

Options: sequence ("T2w"): what all of them are. pattern ("*"): a pattern of file names ("*_t2w.*") or, with a slash in
it, of paths below the folder. exclude (["*gland*", "*lesion*", "*zones*", "*label*", "*mask*", "*seg*"]): patterns of
file names that are left out, for folders where labels lie among the images. dicom (false): look for DICOM folders
instead of files.
"""

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from ProstateXferLib.images.io import image_suffix
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folder_tree import dicom_folders, files_below, require_cases, stem_of

_LABELS = ("*gland*", "*lesion*", "*zones*", "*label*", "*mask*", "*seg*")


def find(
    folder: Path,
    sequence: str = "T2w",
    pattern: str = "*",
    exclude: Sequence[str] = _LABELS,
    dicom: bool = False,
) -> list[Case]:
    """Every image below the folder that the patterns let pass.

    Raises:
        ProstateXferError: there is none.
    """
    paths = dicom_folders(folder) if dicom else [path for path in files_below(folder) if image_suffix(path)]
    cases = []
    for path in paths:
        place = path.relative_to(folder)
        text = place.as_posix() if "/" in pattern else place.name
        if not fnmatch.fnmatch(text, pattern) or any(fnmatch.fnmatch(place.name, e) for e in exclude):
            continue
        case_id = (place if dicom else place.with_name(stem_of(place))).as_posix()
        at_top = place.parent == Path()
        cases.append(Case(case_id, case_id if at_top else place.parent.as_posix(), {sequence: path}))
    what = "a folder with DICOM files" if dicom else f"an image file that matches '{pattern}'"
    return require_cases(cases, folder, "images-only", what)
