# SPDX-License-Identifier: Apache-2.0
"""PANTHER: pancreatic tumours on diagnostic T1w MRI (task 1) and on T2w MRI of an MR-Linac (task 2).

    FOLDER/                                    one task's folder ("PANTHER_Task1"), or the one that holds both
      [PANTHER_Task1/]
        ImagesTr/10000_0001_0000.mha           PATIENT_PHASE_0000; phase 0001 is the arterial one
        LabelsTr/10000_0001.mha                1 tumour, 2 pancreas around it
        ImagesTr_unlabeled/10000_0002_0000.mha other sequences and phases of these and other patients
      [PANTHER_Task2/]
        ImagesTr/10303_0000.mha                PATIENT_0000
        LabelsTr/10303.mha

A case is an image; the patient is the number before the first underscore. Structures: Pancreatic tumour (value 1) and
Pancreas (values 1 and 2: the tumour is part of it). Sequence: T1w in task 1, T2w in task 2.

Options: task (1): or 2. unlabelled (false): the unlabelled images of task 1 instead. Attribute: task.
"""

from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folder_tree import chosen, image_files, require_cases, require_folder
from ProstateXferLib.training.datasets.label_names import label_masks

LAYOUT = "panther"
TUMOUR = "Pancreatic tumour"
_STRUCTURES = {TUMOUR: (1,), "Pancreas": (1, 2)}
_SEQUENCES = {1: "T1w", 2: "T2w"}
_CHANNEL = "_0000.mha"


def find(folder: Path, task: int = 1, unlabelled: bool = False) -> list[Case]:
    """Every image with its labels, or every image without.

    Raises:
        ProstateXferError: there is none, an image lacks its labels, or task 2 is asked for unlabelled images.
    """
    chosen(str(task), ("1", "2"), option="task", layout=LAYOUT)
    if unlabelled and int(task) == 2:
        raise ProstateXferError("Task 2 of PANTHER has no unlabelled images: use task 1.")
    name = f"PANTHER_Task{task}"
    home = folder / name if (folder / name).is_dir() else folder
    images = require_folder(home / ("ImagesTr_unlabeled" if unlabelled else "ImagesTr"), LAYOUT, "images of the task")
    labels = home / "LabelsTr"
    cases = []
    for image in (path for path in image_files(images) if path.name.endswith(_CHANNEL)):
        case_id = image.name.removesuffix(_CHANNEL)
        drawn = labels / f"{case_id}.mha"
        if not unlabelled and not drawn.is_file():
            raise ProstateXferError(f"The image '{image}' has no labels '{drawn}': complete the download.")
        masks = {} if unlabelled else label_masks(drawn, _STRUCTURES)
        patient = case_id.partition("_")[0]
        cases.append(Case(case_id, patient, {_SEQUENCES[int(task)]: image}, masks, {"task": int(task)}))
    return require_cases(cases, images, LAYOUT, "PATIENT_0001_0000.mha")
