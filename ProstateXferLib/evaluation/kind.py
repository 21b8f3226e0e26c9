# SPDX-License-Identifier: Apache-2.0
"""Label maps or CTs? Told by the files where they leave no doubt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.options import Kind
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX

_AIR_BELOW_HU, _BONE_ABOVE_HU = -200, 200
_MOST_LABELS = 64
_TRIED = 3


def detect_kind(cases: Sequence[CaseFiles]) -> Kind:
    """The kind of the first case whose two files can be read.

    Raises:
        ProstateXferError: they are neither plainly label maps nor plainly CTs.
    """
    for case in [case for case in cases if {"prediction", "reference"} <= case.files.keys()][:_TRIED]:
        try:
            kinds = {role: _kind_of(case.files[role]) for role in ("prediction", "reference")}
        except ProstateXferError:
            continue  # a bad case has its own sentence later
        if kinds["prediction"] == kinds["reference"] and None not in kinds.values():
            return kinds["reference"]
        told = ", ".join(f"the {role} looks like {_WORDS[kind]}" for role, kind in kinds.items())
        raise ProstateXferError(f"In '{case.case}' {told}; say what they are with --kind segmentation or --kind sct.")
    return "segmentation"


_WORDS = {"segmentation": "a label map", "sct": "a CT", None: "neither a label map nor a CT"}


def _kind_of(path: Path) -> Kind | None:
    if path.name.lower().endswith(SEGMENTATION_SUFFIX):
        return "segmentation"
    image = read_image(path)
    if image.GetNumberOfComponentsPerPixel() > 1:
        return None
    voxels = sitk.GetArrayViewFromImage(image)
    low, high = float(voxels.min()), float(voxels.max())
    if low < _AIR_BELOW_HU and high > _BONE_ABOVE_HU:
        return "sct"
    whole = voxels.dtype.kind in "iu" or bool((voxels == np.rint(voxels)).all())
    return "segmentation" if whole and low >= 0 and len(np.unique(voxels)) <= _MOST_LABELS else None
