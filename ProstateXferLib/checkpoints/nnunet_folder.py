# SPDX-License-Identifier: Apache-2.0
"""Reading an nnU-Net v2 results folder without nnU-Net: plans.json, dataset.json, fold_*/checkpoint_*.pth.

The folder of one fold (TRAINER__PLANS__CONFIGURATION/fold_2) is a model, too: that fold alone. Weights are opened like
every file from a stranger (checkpoints/foreign.py): nothing in them is executed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.foreign import read_foreign, state_dict_of
from ProstateXferLib.checkpoints.pth_outline import read_outline
from ProstateXferLib.errors import ProstateXferError

DEFAULT_CHECKPOINT = "checkpoint_final.pth"
"""What nnU-Net's own predictor takes (2.8.1)."""
_PLANS, _DATASET = "plans.json", "dataset.json"
_FOLD = re.compile(r"fold_(\d+|all)")


@dataclass(frozen=True)
class NnunetFold:
    """One fold: its name ("0", "all"), its file, its weights, and the axes that may be mirrored."""

    name: str
    path: Path
    weights: Mapping[str, Any]
    mirror_axes: tuple[int, ...]


@dataclass(frozen=True)
class NnunetFolder:
    """A results folder, read.

    Attributes:
        plans, dataset: plans.json and dataset.json.
        name: of the configuration: "2d", "3d_fullres", ...
        configuration: that of the plans, with everything that it inherits.
        folds: those asked for, in order.
        alone: whether one fold was asked for by its own folder.
    """

    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    name: str
    configuration: Mapping[str, Any]
    folds: tuple[NnunetFold, ...]
    alone: bool = False


def is_nnunet_folder(path: Path) -> bool:
    """Whether this folder looks like one of nnU-Net's: plans, or a fold, lie in it."""
    return path.is_dir() and ((path / _PLANS).is_file() or bool(_fold_names(path)))


def is_nnunet_fold(path: Path) -> bool:
    """Whether this is the folder of one fold in one of nnU-Net's; `is_nnunet_folder` says no of it."""
    return is_fold_name(path.name) and path.is_dir() and _lies_beside_plans(path)


def is_fold_name(name: str) -> bool:
    """Whether a folder of this name may be a fold's: fold_0, fold_all."""
    return _FOLD.fullmatch(name) is not None


def results_folder(path: Path) -> Path:
    """The results folder of a fold's folder; the path itself where it is none."""
    return path.parent if is_nnunet_fold(path) else path


def fold_folders(path: Path) -> list[Path]:
    """The folders of the folds in a results folder: by number, fold_all last."""
    return [path / f"fold_{name}" for name in _fold_names(path)]


def nnunet_files(path: Path, folds: Any = None, checkpoint: str | None = None) -> list[Path]:
    """The files of the folder that a model is made of: plans, dataset, one checkpoint a fold.

    Raises:
        ProstateXferError: naming what is missing, or other folds than the one whose folder it is.
    """
    path, folds = _results_and_folds(Path(path), folds)
    for name in (_PLANS, _DATASET):
        if not (path / name).is_file():
            raise ProstateXferError(
                f"'{path}' is no whole nnU-Net results folder: {name} is missing; give the folder that has plans.json, "
                "dataset.json and fold_0."
            )
    return [path / _PLANS, path / _DATASET, *(_checkpoint(path, fold, checkpoint) for fold in _chosen(path, folds))]


def read_nnunet_folder(
    path: Path, *, folds: Any = None, checkpoint: str | None = None, outlines: bool = False
) -> NnunetFolder:
    """Read the folder.

    Args:
        path: TRAINER__PLANS__CONFIGURATION, as nnU-Net's training writes it, or one fold_K in it.
        folds: a number, "all", or several of them; None takes every numbered fold there is, else fold_all.
        checkpoint: file name; None is checkpoint_final.pth.
        outlines: no weights are read, and PyTorch is not loaded: tensors are `TensorOutline`s.

    Raises:
        ProstateXferError: something is missing, damaged, unsafe or contradictory.
    """
    plans_file, dataset_file, *files = nnunet_files(path, folds, checkpoint)
    plans, dataset = _json(plans_file), _json(dataset_file)
    read, names = [], set()
    for file in files:
        content = read_outline(file) if outlines else read_foreign(file)
        arguments = content.get("init_args")
        if not isinstance(arguments, Mapping) or "network_weights" not in content:
            raise ProstateXferError(f"'{file}' is no checkpoint of nnU-Net's training: get it again.")
        names.add(str(arguments.get("configuration")))
        axes = tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ())
        read.append(NnunetFold(file.parent.name.removeprefix("fold_"), file, state_dict_of(content), axes))
    if len(names) != 1:
        raise ProstateXferError(f"The folds of '{path}' are of several configurations ({', '.join(sorted(names))}).")
    (name,) = names
    return NnunetFolder(
        plans, dataset, name, merged_configuration(plans, name), tuple(read), alone=is_nnunet_fold(Path(path))
    )


def merged_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration of the plans with what it inherits (`inherits_from`), its own values first.

    Raises:
        ProstateXferError: there is none of that name, or it inherits from itself.
    """
    configurations, merged, seen, wanted = plans.get("configurations", {}), {}, [], name
    while wanted is not None:
        if wanted not in configurations or wanted in seen:
            problem = (
                "inherits from itself" if wanted in seen else f"is not there (there are {', '.join(configurations)})"
            )
            raise ProstateXferError(f"nnU-Net's plans: the configuration '{wanted}' {problem}: get plans.json again.")
        seen.append(wanted)
        own = configurations[wanted]
        merged, wanted = {**own, **merged}, own.get("inherits_from")
    merged.pop("inherits_from", None)
    return merged


def _fold_names(path: Path) -> list[str]:
    found = [item.name.removeprefix("fold_") for item in path.iterdir() if is_fold_name(item.name)]
    return sorted(found, key=lambda name: (name == "all", int(name) if name != "all" else 0))


def _lies_beside_plans(path: Path) -> bool:
    """A folder with plans of its own is a results folder, whatever it is called."""
    return (path.parent / _PLANS).is_file() and not (path / _PLANS).is_file()


def _results_and_folds(path: Path, folds: Any) -> tuple[Path, Any]:
    if not is_nnunet_fold(path):
        return path, folds
    own = path.name.removeprefix("fold_")
    if folds is not None and _names(folds) != [own]:
        raise ProstateXferError(f"'{path}' is fold {own} alone: choose other folds from '{path.parent}'.")
    return path.parent, [own]


def _names(folds: Any) -> list[str]:
    several = isinstance(folds, Sequence) and not isinstance(folds, str)
    return [str(fold) for fold in (folds if several else [folds])]


def _chosen(path: Path, folds: Any) -> list[str]:
    there = _fold_names(path)
    chosen = ([name for name in there if name != "all"] or there) if folds is None else _names(folds)
    missing = [name for name in chosen if name not in there]
    if missing or not chosen or len(set(chosen)) != len(chosen):
        problem = f"no fold_{missing[0]}" if missing else "no fold, or one twice, to take"
        raise ProstateXferError(
            f"'{path}' has {problem}: its folds are {', '.join(there) or 'none; training has not written any'}."
        )
    return chosen


def _checkpoint(path: Path, fold: str, checkpoint: str | None) -> Path:
    file = path / f"fold_{fold}" / (checkpoint or DEFAULT_CHECKPOINT)
    if not file.is_file():
        others = ", ".join(sorted(item.name for item in file.parent.glob("checkpoint_*.pth"))) or "no checkpoint"
        raise ProstateXferError(f"There is no '{file}' (fold {fold} has {others}): choose another checkpoint or fold.")
    return file


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ProstateXferError(f"'{path}' cannot be read ({error}): get it again.") from error
    if not isinstance(values, dict):
        raise ProstateXferError(f"'{path}' holds no JSON object: get it again.")
    return values
