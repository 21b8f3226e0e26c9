# SPDX-License-Identifier: Apache-2.0
"""A case of a training data set as files that a plan can name: its images, and one label map with names."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import scheme_of
from ProstateXferLib.files import make_folder
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.segmentation_file import SEGMENTATION_SUFFIX, write_segmentation
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.studies.ensemble_selection.case_hashes import hashed_case
from ProstateXferLib.studies.ensemble_selection.plan import PlannedCase
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence

IMAGES, REFERENCES = "images", "references"


def planned_case(case: Case, sequences: tuple[str, ...], folder: Path) -> PlannedCase:
    """The case with its reference written below `folder`, and images that have no file of their own.

    Masks may be several files, surfaces or zones: they become one label map on the image's grid, in which a part (a
    lesion) lies over the whole; a structure that was looked for and not found is named there, too.

    Args:
        case: of the data set.
        sequences: those that the models take, the one that gives the grid first.
        folder: the plan's.

    Raises:
        ProstateXferError: a case without files (a phantom), a sequence that it lacks, or masks that cannot be read.
    """
    if not case.images:
        raise ProstateXferError(
            f"The case '{case.case_id}' has no image file, as phantoms that a training draws: use cases with files."
        )
    image = read_sequence(case, sequences[0])
    name = hashed_case(case.case_id)  # ids may hold what no file name may
    reference = make_folder(folder / REFERENCES) / f"{name}{SEGMENTATION_SUFFIX}"
    _write_reference(case, image, reference)
    files = {sequence: _image_file(case, sequence, folder, name) for sequence in sequences}
    others = {sequence.lower(): files[sequence] for sequence in sequences[1:]}
    return PlannedCase(case.case_id, files[sequences[0]], reference, case.patient_id, others)


def _image_file(case: Case, sequence: str, folder: Path, name: str) -> Path:
    """The file itself, or a copy of the one volume that is meant where it holds several."""
    if sequence not in case.channels:
        return case.images[sequence]
    path = make_folder(folder / IMAGES) / f"{name}-{sequence.lower()}.nii.gz"
    return write_image(read_sequence(case, sequence), path)


def _write_reference(case: Case, image: sitk.Image, path: Path) -> None:
    grid = Grid.of(image)
    scheme = scheme_of(frozenset(case.masks))
    labels = np.zeros(grid.shape_zyx, dtype=np.uint8)
    for structure in sorted(scheme, key=lambda one: _depth(one, scheme)):
        mask = sitk.GetArrayFromImage(read_mask(case.masks[structure.name], grid))
        labels[mask > 0] = structure.value
    write_segmentation(grid.image(labels), scheme, path)


def _depth(structure: Structure, scheme: tuple[Structure, ...]) -> int:
    """How many wholes it is part of; what lies deeper is drawn later."""
    whole = next((one for one in scheme if one.name == structure.part_of and one.name != structure.name), None)
    return 0 if whole is None else 1 + _depth(whole, tuple(one for one in scheme if one is not structure))
