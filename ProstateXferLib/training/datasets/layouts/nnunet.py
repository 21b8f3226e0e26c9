# SPDX-License-Identifier: Apache-2.0
"""A data set in the raw format of nnU-Net v2.

    FOLDER/                            DatasetNNN_Name itself
      dataset.json                     channel_names {"0": "T2"}, file_ending ".nii.gz",
                                       labels {"background": 0, "prostate": [1, 2], "lesion": 2}
      imagesTr/CASE_0000.nii.gz        one file a channel: _0000, _0001, ...
      labelsTr/CASE.nii.gz
      imagesTs/CASE_0000.nii.gz        optional, without labels
      splits_final.json                optional (nnU-Net keeps it in nnUNet_preprocessed): honoured with the option fold

A channel's name becomes a sequence (T2, T2W, T2w: "T2w"; ADC; HBV, DWI, CT, T1, ...), a label's name a structure where
this library knows one (PZ: "Peripheral zone") and stays as it is otherwise. Labels of regions keep all their values.
Both zones without a whole gland make the Prostate as well; "ignore" is left out. Every case is a patient unless the
option patient says how to tell.

Options: sequences ({}): channel name -> sequence. structures ({}): label name -> structure. part ("train"): "test" or
"" for both. fold (none): the attribute part becomes "train" or "val" as in splits_final.json, so that the split
{rule: fixed, validation: ["part=val"]} is nnU-Net's. splits ("splits_final.json"): its place, from FOLDER. patient
(""): a regular expression whose first group in a case id is the patient. Attribute: part.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.folder_tree import chosen, require_cases, require_folder
from ProstateXferLib.training.datasets.label_names import label_masks, structure_values
from ProstateXferLib.training.datasets.sequence_names import sequence_name
from ProstateXferLib.training.datasets.tables import read_json

LAYOUT = "nnunet"


def find(
    folder: Path,
    sequences: Mapping[str, str] | None = None,
    structures: Mapping[str, str] | None = None,
    part: str = "train",
    fold: int | None = None,
    splits: str = "splits_final.json",
    patient: str = "",
) -> list[Case]:
    """Every case with all its channels.

    Raises:
        ProstateXferError: there is none, dataset.json or splits_final.json is missing or not as it should be, or a case
            lacks a channel or its labels.
    """
    chosen(part, ("train", "test", ""), option="part", layout=LAYOUT)
    description = read_json(folder / "dataset.json", ("channel_names", "labels", "file_ending"))
    ending = str(description["file_ending"])
    channels = {int(n): sequence_name(str(name), sequences or {}) for n, name in description["channel_names"].items()}
    values = structure_values(description["labels"], structures or {})
    sides = {} if fold is None else _sides(folder / splits, fold)
    cases = []
    for own_part, images in (("train", folder / "imagesTr"), ("test", folder / "imagesTs")):
        if part not in ("", own_part) or (own_part == "test" and part == "" and not images.is_dir()):
            continue
        require_folder(images, LAYOUT, f"CASE_0000{ending}")
        for first in sorted(images.glob(f"*_0000{ending}")):
            case_id = first.name.removesuffix(f"_0000{ending}")
            labels = folder / "labelsTr" / f"{case_id}{ending}"
            if own_part == "train" and not labels.is_file():
                raise ProstateXferError(f"The case '{case_id}' has no labels '{labels}': complete the data set.")
            files = {name: images / f"{case_id}_{number:04d}{ending}" for number, name in channels.items()}
            if missing := [file for file in files.values() if not file.is_file()]:
                raise ProstateXferError(f"The case '{case_id}' has no '{missing[0]}': complete the data set.")
            masks = label_masks(labels, values) if own_part == "train" else {}
            attributes = {"part": sides.get(case_id, own_part)}
            cases.append(Case(case_id, _patient(case_id, patient), files, masks, attributes))
    return require_cases(cases, folder, LAYOUT, f"imagesTr/CASE_0000{ending} with labelsTr/CASE{ending}")


def _patient(case_id: str, pattern: str) -> str:
    if not pattern:
        return case_id
    try:
        match = re.search(pattern, case_id)
        if match is not None:
            return match[1]
    except (re.error, IndexError) as error:
        raise ProstateXferError(f"The option patient is no regular expression with a group: '{pattern}'.") from error
    raise ProstateXferError(f"The option patient ('{pattern}') does not match the case id '{case_id}': correct it.")


def _sides(path: Path, fold: int) -> dict[str, str]:
    """{case id: "train" or "val"} of one fold."""
    try:
        folds: Any = json.loads(path.read_text(encoding="utf-8"))
        chosen_fold = {side: [str(name) for name in folds[int(fold)][side]] for side in ("train", "val")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProstateXferError(
            f"'{path}' is no splits_final.json with a fold {fold}: give its place by the option splits."
        ) from error
    return {name: side for side, names in chosen_fold.items() for name in names}
