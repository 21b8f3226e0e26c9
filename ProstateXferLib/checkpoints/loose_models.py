# SPDX-License-Identifier: Apache-2.0
"""The models in the models folders that no registry lists: checkpoint files and nnU-Net results folders."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.ensemble_card import MEMBERS_SUFFIX
from ProstateXferLib.checkpoints.file_format import SUFFIX
from ProstateXferLib.checkpoints.nnunet_folder import is_nnunet_fold, is_nnunet_folder
from ProstateXferLib.checkpoints.registry import known_models, models_folders

_DATASET = re.compile(r"Dataset\d{3}_.+")
_TRAINED = re.compile(r".+__.+__.+")
"""TRAINER__PLANS__CONFIGURATION, below DATASET, as nnU-Net lays its results out."""


@dataclass(frozen=True)
class LooseModel:
    """A model that no registry lists.

    Attributes:
        name: what `registry.resolve` takes: a file's stem; an nnU-Net folder's path below the models folder, with "/";
            the whole path where another model has that name.
        path: the file or the folder.
    """

    name: str
    path: Path


def loose_models(models_folder: Path | None = None) -> list[LooseModel]:
    """All of them, folder by folder in the order of the search; of files with one name the first folder's.

    nnU-Net folders are found in a models folder or one level below, each as nnU-Net lays it out (also below
    Dataset005_NAME); deeper ones are not looked for, because any folder may be chosen as a models folder.

    Raises:
        ProstateXferError: a registry file is malformed.
    """
    registered = known_models(models_folder)
    names, files = {model.name for model in registered}, {model.file_name for model in registered}
    found: list[LooseModel] = []
    later: list[tuple[str, Path]] = []  # a file keeps its stem, whatever nnU-Net folders there are
    for folder in models_folders(models_folder):
        for path in models_in(folder):
            if not _is_file(path):
                later.append((path.relative_to(folder).as_posix(), path))
            elif path.name not in files:
                files.add(path.name)
                found.append(_named(path.stem, path, names))
    return [*found, *(_named(name, path, names) for name, path in later)]


def models_in(folder: Path) -> Iterator[Path]:
    """The checkpoint files in a models folder, then the nnU-Net folders: TRAINED, X/TRAINED and X/DATASET/TRAINED.

    TRAINED is any folder that looks like one of nnU-Net's; below the first level it is named as nnU-Net does, too.
    """
    entries = _entries(folder)
    yield from (path for path in entries if _is_file(path))
    for first in entries:
        if first.name.endswith(MEMBERS_SUFFIX):
            continue  # copies for one ensemble, which finds them by itself
        if _is_nnunet(first):
            yield first
            continue
        for second in _entries(first):
            if _TRAINED.fullmatch(second.name) and _is_nnunet(second):
                yield second
            elif _DATASET.fullmatch(second.name):
                yield from (third for third in _entries(second) if _TRAINED.fullmatch(third.name) and _is_nnunet(third))


def is_model(path: Path) -> bool:
    """Whether a checkpoint file, an nnU-Net folder or the folder of one of its folds lies there.

    Folds are no models of their own in `models_in`, which lists the folder that they lie in.
    """
    return _is_file(path) or _is_nnunet(path) or _looks_like(is_nnunet_fold, path)


def _named(name: str, path: Path, names: set[str]) -> LooseModel:
    own = str(path) if name in names else name
    names.add(own)
    return LooseModel(own, path)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order, without hidden things; nothing where it is none or may not be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    return path.suffix == SUFFIX and path.is_file()


def _is_nnunet(path: Path) -> bool:
    return _looks_like(is_nnunet_folder, path)


def _looks_like(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except OSError:  # may not be read, so that it is no model for this user
        return False
