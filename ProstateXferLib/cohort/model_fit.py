# SPDX-License-Identifier: Apache-2.0
"""Whether a model can do a task of a study: what it makes, which images it takes, what it finds."""

from ProstateXferLib.checkpoints.architectures import ARCHITECTURES, ENSEMBLE
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.cohort.inputs import INPUT_TITLES, SEQUENCE_OF, input_of_sequence
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.images.structures import PROSTATE, Structure
from ProstateXferLib.metrics.naming import is_gland, is_lesion


def why_not(card: ModelCard, task: Task) -> str | None:
    """Why a model cannot do a task, in one sentence; None when it can."""
    kind = "synthesis" if task.is_synthesis else "segmentation"
    other = f"choose another model for {task.title}."
    if card.task != kind:
        does = {"segmentation": "segments", "synthesis": "makes a synthetic CT", "encoder": "is an encoder alone"}
        return f"The model '{card.name}' {does[card.task]} and cannot do {task.title}: {other}"
    if wrong_images := _why_not_its_images(card, task, other):
        return wrong_images
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


def _why_not_its_images(card: ModelCard, task: Task, other: str) -> str | None:
    """Why a study cannot give the model its sequences; whether they were chosen is asked elsewhere."""
    fields = [input_of_sequence(sequence) for sequence in card.inputs]
    if None in fields and not task.is_synthesis:
        return (
            f"The model '{card.name}' takes '{card.inputs[fields.index(None)]}', which none of a study's images is "
            f"({', '.join(SEQUENCE_OF.values())}): run it with {_segment_command(card)}, or import it again with "
            f"--inputs if that is another name for one of them, or {other}"
        )
    if None in fields or {field == "cbct" for field in fields} != {task is Task.CT_FROM_CBCT}:
        return f"The model '{card.name}' takes {' and '.join(card.inputs)} and cannot do {task.title}: {other}"
    return _why_not_together(card, fields, other) if len(fields) > 1 else None


def _why_not_together(card: ModelCard, fields: list[str | None], other: str) -> str | None:
    """Why a study does not run a model of several sequences, each of which it has."""
    names, is_ensemble = ", ".join(card.inputs), card.architecture == ENSEMBLE
    if not (ARCHITECTURES[card.architecture].dense or is_ensemble):
        return (
            f"The model '{card.name}' names {len(fields)} sequences ({names}), and a network of the architecture "
            f"'{card.architecture}' takes one: {other}"
        )
    if fields[0] != "t2w":
        return (
            f"The model '{card.name}' takes {card.inputs[0]} first, and its result would lie on the grid of the "
            f"{INPUT_TITLES[fields[0]]} where a study's lies on the T2w image's: run it with {_segment_command(card)}, "
            f"or {other}"
        )
    twice = [field for field in fields if fields.count(field) > 1]
    if twice and not is_ensemble:  # members may spell one sequence in two ways
        same = " and ".join(name for name, field in zip(card.inputs, fields, strict=True) if field == twice[0])
        return (
            f"The model '{card.name}' takes {same}, and a study has one {INPUT_TITLES[twice[0]]}: run it with "
            f"{_segment_command(card)}, or {other}"
        )
    return None


def _segment_command(card: ModelCard) -> str:
    """The words that run the model outside studies."""
    also = [f"'{name}=IMAGE'" for name in card.inputs[1:]]
    return " ".join(["prostatexfer segment", *(["--also", *also] if also else [])])


def _is_of_the_gland(structure: Structure) -> bool:
    """The whole prostate, or a zone of it."""
    return is_gland(structure) or (structure.part_of == PROSTATE.name and not is_lesion(structure))


def _names(structures: tuple[Structure, ...]) -> str:
    return ", ".join(structure.name for structure in structures) or "nothing"
