# SPDX-License-Identifier: Apache-2.0
"""Which cases each fold of an nnU-Net held out: by what the fold predicted for its validation, or by the splits.

At the end of training nnU-Net writes fold_K/validation/CASE.nii.gz of every case that fold K was validated with. Where
these are gone, splits_final.json of the preprocessed data set says it: a list with "train" and "val" for each fold.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.nnunet_folder import fold_folders, is_nnunet_fold
from ProstateXferLib.errors import ProstateXferError

SPLITS_FILE = "splits_final.json"
PREPROCESSED_VARIABLE = "nnUNet_preprocessed"
_VALIDATION = "validation"


@dataclass(frozen=True)
class NnunetFolds:
    """The numbered folds of a results folder.

    Attributes:
        held_out: fold's folder -> cases that it was not trained on, sorted.
        missing: folders of folds that the splits or the numbering tell of and that are not there.
    """

    held_out: Mapping[Path, tuple[str, ...]]
    missing: tuple[str, ...]


def numbered_folds(folder: Path) -> list[Path]:
    """The folders of the folds of TRAINER__PLANS__CONFIGURATION that may have held cases out.

    Raises:
        ProstateXferError: one fold's folder, fold_all alone, or no folds.
    """
    if is_nnunet_fold(folder):
        raise ProstateXferError(
            f"'{folder}' is one fold: a plan takes all folds of an nnU-Net, so give '{folder.parent}'."
        )
    there = fold_folders(folder)
    folds = [fold for fold in there if fold.name != "fold_all"]
    if not folds:
        known = "fold_all alone, which was trained on every case" if there else "no folds"
        raise ProstateXferError(f"'{folder}' has {known}: a plan needs folds that held cases out, fold_0 and so on.")
    return folds


def nnunet_folds(folds: Sequence[Path], ending: str, splits: Path | None) -> NnunetFolds:
    """What the folds held out.

    Args:
        folds: of one results folder (`numbered_folds`).
        ending: of image files (".nii.gz").
        splits: splits_final.json, where there is one.

    Raises:
        ProstateXferError: a fold of which nobody says what it held out, or two answers.
    """
    sides = None if splits is None else _validation_sides(splits)
    held_out = {fold: _held_out(fold, ending, splits, sides) for fold in folds}
    _check_apart(held_out)
    there = {fold.name for fold in folds}
    count = len(sides) if sides is not None else 1 + max(_number(fold) for fold in folds)
    return NnunetFolds(held_out, tuple(f"fold_{n}" for n in range(count) if f"fold_{n}" not in there))


def find_splits(given: Path | None, dataset: str) -> Path | None:
    """The file that the user gives, else $nnUNet_preprocessed/DATASET/splits_final.json where it exists.

    Raises:
        ProstateXferError: the given file is not there.
    """
    if given is not None:
        if not given.is_file():
            raise ProstateXferError(f"There is no file '{given}': give nnU-Net's {SPLITS_FILE} with --nnunet-splits.")
        return given
    if not (root := os.environ.get(PREPROCESSED_VARIABLE)) or not dataset:
        return None
    found = Path(root) / dataset / SPLITS_FILE
    return found if found.is_file() else None


def _held_out(fold: Path, ending: str, splits: Path | None, sides: list[set[str]] | None) -> tuple[str, ...]:
    files = (fold / _VALIDATION).glob(f"*{ending}")
    predicted = {path.name.removesuffix(ending) for path in files if not path.name.startswith(".")}
    if sides is None:
        if not predicted:
            raise ProstateXferError(
                f"'{fold}' has no images in its folder '{_VALIDATION}', so nothing tells which cases it held out: give "
                f"nnU-Net's {SPLITS_FILE} with --nnunet-splits."
            )
        return tuple(sorted(predicted))
    if _number(fold) >= len(sides):
        raise ProstateXferError(
            f"'{splits}' has {len(sides)} folds, and there is a '{fold}': give the {SPLITS_FILE} that it was trained "
            "with."
        )
    side = sides[_number(fold)]
    if predicted and predicted != side:
        case = min(predicted ^ side)
        where = "validated it" if case in predicted else "did not validate it"
        raise ProstateXferError(
            f"'{splits}' and '{fold / _VALIDATION}' disagree about '{case}' (the fold {where}): give the {SPLITS_FILE} "
            "that it was trained with."
        )
    return tuple(sorted(side))


def _check_apart(held_out: Mapping[Path, tuple[str, ...]]) -> None:
    owners: dict[str, Path] = {}
    for fold, cases in held_out.items():
        for case in cases:
            owner = owners.setdefault(case, fold)
            if owner is not fold:
                raise ProstateXferError(
                    f"'{owner}' and {fold.name} both held out the case '{case}', so that no single one can be told to "
                    "predict it: remove what is left of an earlier training."
                )


def _validation_sides(path: Path) -> list[set[str]]:
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))
        return [{str(case) for case in fold["val"]} for fold in folds]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ProstateXferError(
            f'\'{path}\' is no {SPLITS_FILE}, a list with "train" and "val" for each fold: give another one.'
        ) from error


def _number(fold: Path) -> int:
    return int(fold.name.removeprefix("fold_"))
