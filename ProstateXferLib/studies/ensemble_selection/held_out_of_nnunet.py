# SPDX-License-Identifier: Apache-2.0
"""An nnU-Net results folder as a candidate: each case of its raw data set by the fold that held it out.

Sequences and structures have the names that the models have (checkpoints/import_nnunet.py). The folder holds no record
of training cases: its own word, or that of splits_final.json, is all there is.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.import_nnunet import nnunet_card
from ProstateXferLib.checkpoints.nnunet_labels import drawn_values
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.studies.ensemble_selection.held_out import HeldOut
from ProstateXferLib.studies.ensemble_selection.nnunet_folds import (
    NnunetFolds,
    find_splits,
    nnunet_folds,
    numbered_folds,
)
from ProstateXferLib.studies.ensemble_selection.plan import Candidate
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.datasets.layouts.nnunet import find
from ProstateXferLib.training.datasets.tables import read_json

RAW_VARIABLE = "nnUNet_raw"
_DESCRIPTION = "dataset.json"
_DATASET = re.compile(r"Dataset\d{3}_.+")
_SAME = ("labels", "channel_names", "file_ending")
"""Keys of dataset.json by which images and labels are understood."""


def held_out_of_nnunet(folder: Path, name: str = "", *, raw: Path | None = None, splits: Path | None = None) -> HeldOut:
    """One candidate, with a model for every case that a fold held out.

    Args:
        folder: TRAINER__PLANS__CONFIGURATION.
        name: the candidate's; the folder's where it is empty.
        raw: its data set (nnUNet_raw/DatasetNNN_X); None takes $nnUNet_raw/DatasetNNN_X.
        splits: splits_final.json; None takes $nnUNet_preprocessed/DatasetNNN_X/splits_final.json where it exists.

    Raises:
        ProstateXferError: no such folder, data set or case, folds that held nothing out or the same case, another data
            set than the one trained on, or labels that leave voxels out.
    """
    numbered = numbered_folds(folder)
    about = read_json(folder / _DESCRIPTION, _SAME)
    dataset = _dataset_name(folder, about)
    folds = nnunet_folds(numbered, str(about["file_ending"]), find_splits(splits, dataset))
    card = nnunet_card(folder)
    data = _raw_folder(raw, dataset, folder)
    found = _cases(data, about, card.inputs, folder)
    models = {case: fold for fold, own in folds.held_out.items() for case in own}
    if unknown := sorted(set(models) - set(found)):
        raise ProstateXferError(
            f"The case '{unknown[0]}', which '{models[unknown[0]]}' held out, is not in '{data}': give the data set "
            "that it was trained on with --nnunet-raw."
        )
    candidate = Candidate(name or folder.absolute().name, {case: models[case] for case in sorted(models)})
    held_out = tuple(found[case] for case in candidate.models)
    warnings = _warnings(candidate.name, folds, found, held_out)
    return HeldOut(f"'{candidate.name}'", (candidate,), held_out, (card,), warnings, recorded=False)


def _dataset_name(folder: Path, about: Mapping[str, Any]) -> str:
    """DatasetNNN_X by the folder that it lies in, else by what it says; "" where nobody knows."""
    plans = read_json(folder / "plans.json", ("configurations",))
    names = (folder.absolute().parent.name, plans.get("dataset_name"), about.get("name"))
    return next((str(name) for name in names if name and _DATASET.fullmatch(str(name))), "")


def _raw_folder(given: Path | None, dataset: str, folder: Path) -> Path:
    if given is not None:
        return given
    root = os.environ.get(RAW_VARIABLE)
    if not root or not dataset:
        raise ProstateXferError(
            f"Nothing tells where the images of '{folder}' lie: give nnU-Net's folder nnUNet_raw/DatasetNNN_NAME with "
            f"--nnunet-raw, or set ${RAW_VARIABLE}."
        )
    return Path(root) / dataset


def _cases(data: Path, about: Mapping[str, Any], inputs: Sequence[str], folder: Path) -> dict[str, Case]:
    """The training cases by id, their images and masks under the names that the model has for them."""
    own = read_json(data / _DESCRIPTION, _SAME)
    for key in _SAME:
        if own[key] != about[key]:
            raise ProstateXferError(
                f"'{data / _DESCRIPTION}' and '{folder / _DESCRIPTION}' differ in {key}: give the data set that it was "
                "trained on with --nnunet-raw."
            )
    if "ignore" in own["labels"]:
        raise ProstateXferError(
            f"The labels of '{data}' have an 'ignore': nobody drew what lies there, and a selection would score it as "
            "background; plan with cases that are drawn whole."
        )
    channels = own["channel_names"]
    names = dict(zip((str(channels[key]) for key in sorted(channels, key=int)), inputs, strict=True))
    values = drawn_values(about)
    labels, ending = data / "labelsTr", own["file_ending"]
    return {
        case.case_id: replace(case, masks=_masks(labels / f"{case.case_id}{ending}", values))
        for case in find(data, sequences=names)
    }


def _masks(path: Path, values: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Mask, ...]]:
    """A Mask without values would take every voxel, so a structure without values has no Mask: it is not there."""
    return {name: (Mask(path, own),) if own else () for name, own in values.items()}


def _warnings(name: str, folds: NnunetFolds, found: Mapping[str, Case], held_out: Sequence[Case]) -> tuple[str, ...]:
    left_out = len(found) - len(held_out)
    if not folds.missing and not left_out:
        return ()
    there = ", ".join(fold.name for fold in folds.held_out)
    missing = f", and {', '.join(folds.missing)} {'is' if len(folds.missing) == 1 else 'are'} missing"
    return (
        f"'{name}' has {there}{missing if folds.missing else ''}: {left_out} of the {len(found)} cases of its data set "
        "were held out by none and are not in the plan.",
    )
