# SPDX-License-Identifier: Apache-2.0
"""SynthRAD2025: registered pairs of MR and CT (task 1) or CBCT and CT (task 2). It has no pelvis: use synthrad2023.

    FOLDER/
      Task1/AB/1ABA005/mr.mha, ct.mha, mask.mha         AB abdomen, HN head and neck, TH thorax
      Task1/HN/..., Task1/TH/...
      Task2/AB/2ABA001/cbct.mha, ct.mha, mask.mha
      Task2/HN/..., Task2/TH/...

A case is a patient; the fourth letter of the id is the centre (A to E). Structure: Body. Folders without a CT are left
out, and so is "overviews".

Options: task (1): or 2. region ("AB"): "HN" or "TH". sequence ("MR"): what the images of task 1 are called. site (""):
one centre's letter. Attributes: site, region.
"""

from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folder_tree import chosen
from ProstateXferLib.training.datasets.paired_folders import paired_cases

LAYOUT = "synthrad2025"


def find(folder: Path, task: int = 1, region: str = "AB", sequence: str = "MR", site: str = "") -> list[Case]:
    """Every patient of the task and region with a CT.

    Raises:
        ProstateXferError: there is none, or an option has a value that it cannot have.
    """
    chosen(str(task), ("1", "2"), option="task", layout=LAYOUT)
    if region.lower() == "pelvis":
        raise ProstateXferError("SynthRAD2025 has no pelvis: use the layout synthrad2023, or the region AB, HN or TH.")
    chosen(region, ("AB", "HN", "TH"), option="region", layout=LAYOUT)
    options = {"task": int(task), "region": region, "sequence": sequence, "site": site}
    return paired_cases(folder, layout=LAYOUT, suffix=".mha", **options)
