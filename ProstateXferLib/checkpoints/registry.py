# SPDX-License-Identifier: Apache-2.0
"""The models that ProstateXfer knows by name: shipped, in the user's folder, or to be fetched or imported."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.file_format import SUFFIX
from ProstateXferLib.checkpoints.nnunet_folder import is_nnunet_fold, is_nnunet_folder
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.resources_dir import resources_dir

REGISTRY_FILE = "registry.json"
MODELS_VARIABLE = "PROSTATEXFER_MODELS"


@dataclass(frozen=True)
class KnownModel:
    """One registry entry.

    Attributes:
        name: what `load_checkpoint` and the command line take.
        task: "segmentation", "synthesis" or "encoder".
        title: one line for a list.
        licence, citation: of the weights.
        file: file name inside a models folder; None for weights that the user imports as NAME.safetensors.
        sha256: of the file; None only where `file` is None.
        url: where `prostatexfer models --fetch` downloads the file; None where it is shipped or may not be passed on.
        obtain: for weights that the user must get and import: where from and how.
    """

    name: str
    task: str
    title: str
    licence: str
    citation: str = ""
    file: str | None = None
    sha256: str | None = None
    url: str | None = None
    obtain: str | None = None

    @property
    def file_name(self) -> str:
        """Its file's name inside a models folder."""
        return self.file or f"{self.name}{SUFFIX}"

    def path(self, models_folder: Path | None = None) -> Path | None:
        """Where the file lies on this machine, None when it is not here; `models_folder` is searched first."""
        candidates = (folder / self.file_name for folder in models_folders(models_folder))
        return next((path for path in candidates if path.is_file()), None)


def models_folders(models_folder: Path | None = None) -> list[Path]:
    """Folders searched for models: the given one, $PROSTATEXFER_MODELS (offline folders), the user's own, the shipped.

    `models_folder` is one that the user chose for this run alone (an option, where the variable is for every run).
    """
    chosen = [] if models_folder is None else [Path(models_folder).expanduser()]
    return list(dict.fromkeys([*chosen, *_named_folders(), _home_folder(), resources_dir() / "Models"]))


def user_models_folder() -> Path:
    """Where fetched models go: the first folder of $PROSTATEXFER_MODELS, else ~/.prostatexfer/models."""
    return (*_named_folders(), _home_folder())[0]


def _home_folder() -> Path:
    return Path.home() / ".prostatexfer" / "models"


def _named_folders() -> list[Path]:
    return [Path(folder).expanduser() for folder in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if folder]


def known_models(models_folder: Path | None = None) -> list[KnownModel]:
    """All registry entries: the shipped registry, extended or overridden by a registry.json in the other folders.

    Raises:
        ProstateXferError: a registry file is malformed.
    """
    entries: dict[str, KnownModel] = {}
    for folder in reversed(models_folders(models_folder)):
        path = folder / REGISTRY_FILE
        if path.is_file():
            entries.update({model.name: model for model in _read(path)})
    return list(entries.values())


def resolve(path_or_name: str | Path, models_folder: Path | None = None) -> Path:
    """The file, nnU-Net folder or fold's folder of a path or a name; `models_folder` is searched before the others.

    A path goes before a name. Names are those of the registry, then of the files in the models folders (without their
    ending), then of the nnU-Net folders there (their path below the models folder, with "/") and of their folds.

    Raises:
        ProstateXferError: neither a path nor a name, or a known name whose file is not on this machine.
    """
    path = Path(path_or_name).expanduser()
    # A folder that is none of nnU-Net's is what was meant, and is told so when it is opened; but a folder that happens
    # to lie in the working folder does not hide the model of its name.
    if path.is_file() or _is_nnunet(path) or (path.is_dir() and len(path.parts) > 1):
        return path
    name = str(path_or_name)
    models = known_models(models_folder)
    model = next((m for m in models if m.name == name), None)
    if model is None:
        loose = _loose(name, models_folder)
        if loose is not None:
            return loose
        if path.suffix or len(path.parts) > 1:
            raise ProstateXferError(
                f"There is no checkpoint '{name}': check the path, or list the models: prostatexfer models"
            )
        raise ProstateXferError(
            f"There is no model named '{name}': choose one of {', '.join(m.name for m in models) or '(none)'} "
            "or give a file."
        )
    found = model.path(models_folder)
    if found is not None:
        return found
    how = (
        f"fetch it: prostatexfer models --fetch {name}"
        if model.url
        else (model.obtain or "put its file into a models folder")
    )
    raise ProstateXferError(f"The model '{name}' is not on this machine; {how}")


def _loose(name: str, models_folder: Path | None) -> Path | None:
    """The file of this name in a models folder, else the nnU-Net folder there (loose_models.py lists both) or fold."""
    folders = models_folders(models_folder)
    if len(Path(name).parts) == 1:
        file = next((folder / f"{name}{SUFFIX}" for folder in folders if (folder / f"{name}{SUFFIX}").is_file()), None)
        if file is not None:
            return file
    return next((folder / name for folder in folders if _is_nnunet(folder / name)), None)


def _is_nnunet(path: Path) -> bool:
    return is_nnunet_folder(path) or is_nnunet_fold(path)


def _read(path: Path) -> list[KnownModel]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        models = [KnownModel(**entry) for entry in values["models"]]
        outside = [model.file for model in models if model.file and Path(model.file).name != model.file]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ProstateXferError(f"The model registry '{path}' is malformed ({error}): repair or remove it.") from error
    if outside:
        raise ProstateXferError(
            f"The model registry '{path}' names '{outside[0]}': a file name without folders is meant."
        )
    for model in models:
        if model.file is not None and not model.sha256:
            raise ProstateXferError(f"The model registry '{path}' gives no sha256 for '{model.name}': add it.")
    return models
