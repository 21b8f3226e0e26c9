# SPDX-License-Identifier: Apache-2.0
"""Which models can do a task: what the combo boxes of the panel list, and why some of it cannot be chosen.

Only headers of files are read, and each once: the panel asks again at every click.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import FORMAT, SUFFIX, read_card, read_header
from ProstateXferLib.checkpoints.registry import KnownModel, known_models, models_folders, resolve
from ProstateXferLib.cohort.inputs import input_of_sequence
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import PROSTATE, Structure
from ProstateXferLib.metrics.naming import is_gland, is_lesion

ModelState = Literal["here", "to fetch", "to import", "damaged"]
_LARGEST_CACHE = 256


@dataclass(frozen=True, kw_only=True)
class ModelOption:
    """One line of a list of models.

    Attributes:
        name: what StudyOptions takes: a registered name, or name or path of a file in a models folder.
        title: one line for people.
        state: "here", "to fetch" (prostatexfer models --fetch), "to import" (the user gets it) or "damaged".
        path: the file; None where it is not on this machine.
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
    """The registered models and the checkpoint files in the models folders that can do this task.

    Those that can be chosen come first. A model that is here and does something else is left out; one that is not
    here or is damaged is listed with the reason.
    """
    kind = "synthesis" if task.is_synthesis else "segmentation"
    registered = known_models(models_folder)
    options = [_registered(model, task, models_folder) for model in registered if model.task == kind]
    options += _loose(task, registered, models_folder)
    fitting = [option for option in options if option is not None]
    return sorted(fitting, key=lambda option: option.reason is not None)


def card_of(path_or_name: str | Path, models_folder: Path | None = None) -> ModelCard:
    """The card of a checkpoint file or a registered model, from the file's header alone.

    Raises:
        ProstateXferError: no such file or name, or no readable card in it.
    """
    return cached_card(resolve(path_or_name, models_folder))


def cached_card(path: Path) -> ModelCard:
    """The card in a file, read again only when the file has changed."""
    try:
        status = path.stat()
    except OSError as error:
        raise ProstateXferError(
            f"The checkpoint '{path}' cannot be read ({error.strerror}): check the path."
        ) from error
    return _card(str(path), status.st_mtime_ns, status.st_size)


def why_not(card: ModelCard, task: Task) -> str | None:
    """Why a model cannot do a task, in one sentence; None when it can."""
    kind = "synthesis" if task.is_synthesis else "segmentation"
    other = f"choose another model for {task.title}."
    if card.task != kind:
        does = {"segmentation": "segments", "synthesis": "makes a synthetic CT", "encoder": "is an encoder alone"}
        return f"The model '{card.name}' {does[card.task]} and cannot do {task.title}: {other}"
    if len(card.inputs) != 1:
        return (
            f"The model '{card.name}' takes {len(card.inputs)} sequences ({', '.join(card.inputs)}) and studies run "
            f"models of one (prostatexfer segment --also runs it): {other}"
        )
    field = input_of_sequence(card.inputs[0])
    if field is None or (field == "cbct") != (task is Task.CT_FROM_CBCT):
        return f"The model '{card.name}' takes {card.inputs[0]} and cannot do {task.title}: {other}"
    found = structures_found(card)
    if task is Task.DIL and not any(map(is_lesion, found)):
        return f"The model '{card.name}' finds no DIL ({_names(found)}): {other}"
    if task is Task.PROSTATE and not any(map(_is_of_the_gland, found)):
        return f"The model '{card.name}' finds no prostate ({_names(found)}): {other}"
    return None


def structures_found(card: ModelCard) -> tuple[Structure, ...]:
    """The structures that a head of the model finds; a card may describe more."""
    values = {value for head in card.heads for value in head.values}
    return tuple(structure for structure in card.structures if structure.value in values)


def _registered(model: KnownModel, task: Task, models_folder: Path | None) -> ModelOption | None:
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
    return None if why_not(card, task) else ModelOption(**common, state="here", path=path, card=card)


def _loose(task: Task, registered: list[KnownModel], models_folder: Path | None) -> Iterator[ModelOption]:
    """Files that no registry lists; where several folders hold one of the same name, the first folder's."""
    listed = {model.file_name for model in registered}
    names = {model.name for model in registered}
    for folder in models_folders(models_folder):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path.name in listed or path.name.startswith("."):
                continue
            listed.add(path.name)
            # A registered name means its own file, so that this file is named by its path.
            name = str(path) if path.stem in names else path.stem
            try:
                if read_header(path)[0].get("__metadata__", {}).get("format") != FORMAT:
                    continue  # weights of another project
                card = cached_card(path)
            except ProstateXferError as error:
                yield ModelOption(name=name, title=path.name, state="damaged", path=path, reason=str(error))
                continue
            if not why_not(card, task):
                yield ModelOption(name=name, title=card.title or card.name, state="here", path=path, card=card)


@lru_cache(maxsize=_LARGEST_CACHE)
def _card(path: str, mtime_ns: int, size: int) -> ModelCard:
    """Time and size are in the key alone."""
    return read_card(Path(path))


def _is_of_the_gland(structure: Structure) -> bool:
    """The whole prostate, or a zone of it."""
    return is_gland(structure) or (structure.part_of == PROSTATE.name and not is_lesion(structure))


def _names(structures: tuple[Structure, ...]) -> str:
    return ", ".join(structure.name for structure in structures) or "nothing"
