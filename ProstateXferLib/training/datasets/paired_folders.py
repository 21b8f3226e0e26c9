# SPDX-License-Identifier: Apache-2.0
"""SynthRAD's way of keeping pairs, the same in both years: TASK/REGION/PATIENT with source image, CT and body mask."""

from pathlib import Path

from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.folder_tree import require_cases, require_folder, subfolders

TASKS = {1: "mr", 2: "cbct"}


def paired_cases(
    folder: Path, *, layout: str, task: int, region: str, suffix: str, sequence: str, site: str
) -> list[Case]:
    """The patients of one task and region who have source image and CT.

    The source comes first in a case's images: its sequence is `sequence` in task 1 (MR) and "CBCT" in task 2. Patients
    without a CT (published validation and test inputs) are left out. The third letter of a patient's id is the site.

    Raises:
        ProstateXferError: the region's folder is missing or holds no pair.
    """
    example = f"Task{task}/{region}/PATIENT/{{{TASKS[task]},ct,mask}}{suffix}"
    root = require_folder(folder / f"Task{task}" / region, layout, example)
    cases = []
    for place in subfolders(root):
        source, ct, body = (place / f"{name}{suffix}" for name in (TASKS[task], "ct", "mask"))
        own_site = place.name[2:3] if layout == "synthrad2023" else place.name[3:4]
        if not (source.is_file() and ct.is_file()) or (site and site != own_site):
            continue
        images = {sequence if task == 1 else "CBCT": source, "CT": ct}
        masks = {"Body": (Mask(body),)} if body.is_file() else {}
        cases.append(Case(place.name, place.name, images, masks, {"site": own_site, "region": region}))
    return require_cases(cases, root, layout, example)
