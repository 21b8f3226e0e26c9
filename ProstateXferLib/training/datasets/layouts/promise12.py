# SPDX-License-Identifier: Apache-2.0
"""PROMISE12: T2w volumes of four centres in MetaImage, with the whole gland.

    FOLDER/
      ANY/Case00.mhd, Case00.raw (or .zraw)                  training data, at any depth ("TrainingData_Part1", ...)
      ANY/Case00_segmentation.mhd, Case00_segmentation.raw
      ANY/Case00.mhd, ...                                    test data without segmentation, below a folder with "test"
                                                             in its name; their numbers begin at 00 again

A case is a volume, a patient of its own. Case ids are "train-Case00" and "test-Case00". Structure: Prostate.
Option: part ("train"): "train", "test" or "" for both. Attribute: part.
"""

import fnmatch
from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import chosen, files_below, require_cases

LAYOUT = "promise12"
_SEGMENTATION = "_segmentation.mhd"


def find(folder: Path, part: str = "train") -> list[Case]:
    """Every volume.

    Raises:
        ProstateXferError: there is none, or part is none of its values.
    """
    chosen(part, ("train", "test", ""), option="part", layout=LAYOUT)
    cases = []
    for image in files_below(folder):
        if not fnmatch.fnmatch(image.name, "Case*.mhd") or image.name.endswith(_SEGMENTATION):
            continue
        mask = image.with_name(f"{image.stem}{_SEGMENTATION}")
        in_test = any("test" in name.lower() for name in image.relative_to(folder).parts[:-1])
        own_part = "test" if in_test else "train"
        if part in ("", own_part) and (in_test or mask.is_file()):
            name = f"{own_part}-{image.stem}"
            masks = {"Prostate": (Mask(mask),)} if mask.is_file() else {}
            cases.append(Case(name, name, {"T2w": image}, masks, {"part": own_part}))
    return require_cases(cases, folder, LAYOUT, "Case00.mhd with Case00_segmentation.mhd")
