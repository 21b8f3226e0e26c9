# SPDX-License-Identifier: Apache-2.0
"""Which models can do a task: what the combo boxes of the panel list, and why some of it cannot be chosen.

No weights are read: of files the headers, of nnU-Net folders the plans and what lies beside the weights, each once,
because the panel asks again at every click. Members of ensembles are told by their sha256, for which a file is read
once, and again when it has changed.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import average_of, is_ensemble, members_of
from ProstateXferLib.checkpoints.ensemble_members import find_member_paths
from ProstateXferLib.checkpoints.file_format import FORMAT, read_card, read_header
from ProstateXferLib.checkpoints.file_states import FileStates, file_states
from ProstateXferLib.checkpoints.import_nnunet import nnunet_card
from ProstateXferLib.checkpoints.loose_models import loose_models
from ProstateXferLib.checkpoints.registry import KnownModel, known_models, resolve
from ProstateXferLib.cohort.model_fit import why_not
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError

ModelState = Literal["here", "to fetch", "to import", "damaged", "incomplete"]
_LARGEST_CACHE = 256


@dataclass(frozen=True, kw_only=True)
class ModelOption:
    """One line of a list of models.

    Attributes:
        name: what StudyOptions takes: a registered name, or name or path of a file or an nnU-Net folder.
        title: one line for people.
        state: "here", "to fetch" (prostatexfer models --fetch), "to import" (the user gets it), "damaged" or
            "incomplete" (an ensemble, a member of which is missing or was altered).
        path: the file or nnU-Net folder; None where it is not on this machine.
        sha256: of the registry; None for files that no registry lists.
        reason: why it cannot be chosen, in one sentence; None when it can.
        card: the model card; None where there is no readable file.
    """

    name: str
    title: str
    state: ModelState
    path: Path | None = None
    sha256: str | None = None
    reason: str | None = None
    card: ModelCard | None = None


def models_for(task: Task, models_folder: Path | None = None) -> list[ModelOption]:
    """The models of the registry and in the models folders that can do this task.

    Those that can be chosen come first. A file that is here and does something else is left out; an nnU-Net folder
    that segments something else is listed with the reason, because whoever put it there looks for it. What is not here,
    damaged or incomplete is listed with the reason, too.
    """
    kind = "synthesis" if task.is_synthesis else "segmentation"
    options = [_registered(model, models_folder) for model in known_models(models_folder) if model.task == kind]
    fitting = [for_task(option, task) for option in [*options, *loose_options(models_folder)]]
    return sorted((option for option in fitting if option is not None), key=lambda option: option.reason is not None)


def loose_options(models_folder: Path | None = None) -> list[ModelOption]:
    """The checkpoint files, ensembles and nnU-Net folders in the models folders that no registry lists."""
    options = (option_at(model.path, model.name, models_folder) for model in loose_models(models_folder))
    return [option for option in options if option.state != "damaged" or not _is_foreign(option.path)]


def option_at(path: Path, name: str | None = None, models_folder: Path | None = None) -> ModelOption:
    """The model in a file or an nnU-Net folder, under a name or its path; what is wrong with it is its reason."""
    name = name or str(path)
    try:
        card = cached_card(path)
    except ProstateXferError as error:
        return ModelOption(name=name, title=path.name, state="damaged", path=path, reason=str(error))
    option = ModelOption(name=name, title=card.title or card.name, state="here", path=path, card=card)
    return _whole(option, models_folder)


def for_task(option: ModelOption, task: Task) -> ModelOption | None:
    """The option in the list of a task, with the reason where it cannot do it; None where it is left out."""
    reason = None if option.card is None else why_not(option.card, task)
    if reason is None:
        return option
    return replace(option, reason=reason) if option.path.is_dir() and not task.is_synthesis else None


def card_of(path_or_name: str | Path, models_folder: Path | None = None) -> ModelCard:
    """The card of a checkpoint file, an nnU-Net folder or a registered model, without reading weights.

    Raises:
        ProstateXferError: no such file or name, no readable card in it, or an ensemble that lacks a member.
    """
    path = resolve(path_or_name, models_folder)
    card = cached_card(path)
    if is_ensemble(card):
        find_member_paths(card, path, models_folder)
    return card


def cached_card(path: Path) -> ModelCard:
    """The card of a file or an nnU-Net folder, read again only when a file has changed.

    Raises:
        ProstateXferError: missing, damaged, or no checkpoint.
    """
    read = _card(str(path), file_states(path))
    if isinstance(read, str):
        raise ProstateXferError(read)
    return read


def _registered(model: KnownModel, models_folder: Path | None) -> ModelOption:
    path = model.path(models_folder)
    common = {"name": model.name, "title": model.title, "sha256": model.sha256}
    if path is None:
        state = "to fetch" if model.url else "to import"
        try:
            path = resolve(model.name, models_folder)
        except ProstateXferError as error:
            return ModelOption(**common, state=state, reason=str(error))
    try:
        card = cached_card(path)
    except ProstateXferError as error:
        return ModelOption(**common, state="damaged", path=path, reason=str(error))
    return _whole(ModelOption(**common, state="here", path=path, card=card), models_folder)


def _whole(option: ModelOption, models_folder: Path | None) -> ModelOption:
    """The option, with the reason where it is an ensemble that lacks a member."""
    if not is_ensemble(option.card):
        return option
    try:
        find_member_paths(option.card, option.path, models_folder)
    except ProstateXferError as error:
        return replace(option, state="incomplete", reason=str(error))
    return option


def _is_foreign(path: Path) -> bool:
    """Whether this is a whole safetensors file of another project."""
    try:
        return path.is_file() and read_header(path)[0].get("__metadata__", {}).get("format") != FORMAT
    except ProstateXferError:
        return False


@lru_cache(maxsize=_LARGEST_CACHE)
def _card(path: str, states: FileStates) -> ModelCard | str:
    """The card, or the sentence that says why there is none; the states are in the key alone."""
    place = Path(path)
    try:
        card = nnunet_card(place) if place.is_dir() else read_card(place)
        if is_ensemble(card):
            members_of(card)  # raises where they or
            average_of(card)  # the average are malformed
        return card
    except ProstateXferError as error:
        return str(error)
