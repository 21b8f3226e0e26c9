# SPDX-License-Identifier: Apache-2.0
"""The images of a study, read, checked and fingerprinted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.cohort.inputs import INPUT_TITLES, StudyInputs, input_of_sequence
from ProstateXferLib.cohort.options import StudyOptions, Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.checks import check_image, check_same_patient_space
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.io import image_suffix, read_image
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.progress import Progress, raise_if_cancelled

_DETACHED_HEADERS = (".mhd", ".nhdr")
_MR = ("t2w", "adc", "high_b")


@dataclass(frozen=True)
class StudyImages:
    """Images by input name ("t2w", "adc", "high_b", "cbct", "reference_ct") and fingerprints of all that were read."""

    images: Mapping[str, sitk.Image]
    image_sha256: Mapping[str, str] = field(default_factory=dict)
    file_sha256: Mapping[str, str] = field(default_factory=dict)

    def for_model(self, card: ModelCard) -> dict[str, sitk.Image]:
        """What a pipeline takes: sequence name -> image; the result lies on the grid of the T2w image or the CBCT.

        The pipeline brings the other sequences onto the grid of the first, after their intensity rule where the model's
        preprocessing says so: they go to it as they are. A diffusion map that comes first is brought onto the T2w grid.
        """
        chosen = {sequence: self.images[input_of_sequence(sequence)] for sequence in card.inputs}
        first = card.inputs[0]
        if input_of_sequence(first) in ("adc", "high_b"):
            grid = Grid.of(self.images["t2w"])
            if not Grid.of(chosen[first]).same_as(grid):
                chosen[first] = resample_to_grid(chosen[first], grid)
        return chosen


def used_inputs(inputs: StudyInputs, options: StudyOptions) -> dict[str, Path]:
    """The given inputs that the tasks look at, by name; the others are not even opened."""
    names: set[str] = set()
    for task in options.tasks:
        names |= {"cbct"} if task is Task.CT_FROM_CBCT else set(_MR)
        names.add("reference_ct" if task.is_synthesis else "reference_segmentation")
    return {name: path for name, path in inputs.given().items() if name in names}


def read_study_images(inputs: StudyInputs, options: StudyOptions, progress: Progress) -> StudyImages:
    """Read and check the images that the tasks look at; the reference segmentation is hashed alone.

    Raises:
        ProstateXferError: an image that cannot be used, or that lies elsewhere in the patient than the others.
        CancelledError: the user stopped.
    """
    used = used_inputs(inputs, options)
    images: dict[str, sitk.Image] = {}
    for number, (name, path) in enumerate(used.items()):
        raise_if_cancelled(progress)
        progress.update("read", number / len(used), INPUT_TITLES[name])
        if name != "reference_segmentation":
            images[name] = read_image(path)
            check_image(images[name], INPUT_TITLES[name])
    for name in ("adc", "high_b"):
        if name in images:
            check_same_patient_space(images[name], images["t2w"], INPUT_TITLES[name])
    _check_reference_ct(images, options.tasks)
    return StudyImages(
        images,
        {name: image_sha256(image) for name, image in images.items()},
        {name: input_sha256(path) for name, path in used.items()},
    )


def warn_of_unused(images: StudyImages, cards: Sequence[ModelCard], progress: Progress) -> None:
    """Say which diffusion maps no model looked at: the user gave them in the belief that they matter."""
    read = list(dict.fromkeys(sequence for card in cards for sequence in card.inputs))
    used = {input_of_sequence(sequence) for sequence in read}
    for name in ("adc", "high_b"):
        if name in images.images and name not in used:
            which = "model reads" if len({card.name for card in cards}) == 1 else "models read"
            progress.warn(f"The {INPUT_TITLES[name]} was not used: the {which} {' and '.join(read)} only.")


def input_sha256(path: Path) -> str:
    """Hash over the bytes of a file, or over names and bytes of all files of a folder (a DICOM series).

    A header whose voxels lie in a second file is hashed as the image it makes.
    """
    try:
        if image_suffix(path) in _DETACHED_HEADERS and path.is_file():
            return image_sha256(read_image(path))
        if path.is_file():
            return file_sha256(path)
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise ProstateXferError(f"'{path}' cannot be read ({error.strerror}): check its rights.") from error


def _check_reference_ct(images: Mapping[str, sitk.Image], tasks: Sequence[Task]) -> None:
    if "reference_ct" not in images:
        return
    for task in tasks:
        if task.is_synthesis:
            source = images["cbct" if task is Task.CT_FROM_CBCT else "t2w"]
            check_same_patient_space(images["reference_ct"], source, INPUT_TITLES["reference_ct"])
