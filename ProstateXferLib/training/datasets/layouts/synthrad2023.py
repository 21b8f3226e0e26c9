# SPDX-License-Identifier: Apache-2.0
"""SynthRAD2023: registered pairs of MR and CT (task 1) or CBCT and CT (task 2) with a mask of the body.

    FOLDER/
      Task1/pelvis/1PA001/mr.nii.gz, ct.nii.gz, mask.nii.gz
      Task1/brain/1BA001/...
      Task2/pelvis/2PA001/cbct.nii.gz, ct.nii.gz, mask.nii.gz
      Task2/brain/...

A case is a patient; the third letter of the id is the centre (A, B or C). Structure: Body (voxels that count in the
challenge's scores). Folders without a CT are left out, and so is "overview".

Options: task (1): or 2. region ("pelvis"): or "brain". sequence ("MR"): what the images of task 1 are called; the
centres have taken T1w and T2w images. site (""): one centre's letter. Attributes: site, region.
"""

from pathlib import Path

from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folder_tree import chosen
from ProstateXferLib.training.datasets.paired_folders import paired_cases

LAYOUT = "synthrad2023"


def find(folder: Path, task: int = 1, region: str = "pelvis", sequence: str = "MR", site: str = "") -> list[Case]:
    """Every patient of the task and region with a CT.

    Raises:
        ProstateXferError: there is none, or an option has a value that it cannot have.
    """
    chosen(str(task), ("1", "2"), option="task", layout=LAYOUT)
    chosen(region, ("pelvis", "brain"), option="region", layout=LAYOUT)
    options = {"task": int(task), "region": region, "sequence": sequence, "site": site}
    return paired_cases(folder, layout=LAYOUT, suffix=".nii.gz", **options)
