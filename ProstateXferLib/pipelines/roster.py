# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints a `Segmenter` runs, with what weights, and whose rules count."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import (
    average_of,
    check_together,
    is_ensemble,
    members_of,
    merged_inputs,
    merged_structures,
)
from ProstateXferLib.checkpoints.ensemble_members import find_members
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import Structure


@dataclass(frozen=True)
class Roster:
    """Who runs.

    Attributes:
        checkpoints: those with networks: what was given, or an ensemble's members.
        weights: one for each checkpoint.
        average: "probability" or "logit".
        rules: the cards whose heads say how probabilities become labels, the first one's word counting.
        structures: of all together.
        inputs: sequences that are needed; the first one's grid is the result's.
        ensemble: the ensemble that was given, if it was one.
    """

    checkpoints: tuple[Checkpoint, ...]
    weights: tuple[float, ...]
    average: str
    rules: tuple[ModelCard, ...]
    structures: tuple[Structure, ...]
    inputs: tuple[str, ...]
    ensemble: Checkpoint | None = None


def roster_of(
    given: Checkpoint | str | Path | Sequence[Checkpoint | str | Path], models_folder: Path | None = None
) -> Roster:
    """Open what was given: one checkpoint, an ensemble, or several checkpoints that count alike.

    Raises:
        ProstateXferError: nothing given, no such checkpoint, one that does not segment, a missing member, models that
            cannot be averaged.
    """
    several = isinstance(given, Sequence) and not isinstance(given, str)
    opened = tuple(_opened(item, models_folder) for item in (given if several else [given]))
    if not opened:
        raise ProstateXferError("A Segmenter needs at least one checkpoint.")
    ensembles = [item for item in opened if is_ensemble(item.card)]
    if ensembles and len(opened) > 1:
        raise ProstateXferError(
            f"'{ensembles[0].card.name}' is an ensemble and is run alone: make one ensemble of all the models instead "
            "(prostatexfer ensemble)."
        )
    return _of_ensemble(ensembles[0], models_folder) if ensembles else _of_checkpoints(opened)


def _of_checkpoints(checkpoints: tuple[Checkpoint, ...]) -> Roster:
    cards = tuple(item.card for item in checkpoints)
    check_together(cards)
    weights = (1.0,) * len(cards)
    return Roster(checkpoints, weights, "probability", cards, merged_structures(cards), merged_inputs(cards))


def _of_ensemble(ensemble: Checkpoint, models_folder: Path | None) -> Roster:
    card = ensemble.card
    members = find_members(card, ensemble.path, models_folder)
    check_together([member.card for member in members])
    return Roster(
        members,
        tuple(member.weight for member in members_of(card)),
        average_of(card),
        (card,),
        card.structures,
        merged_inputs([member.card for member in members]),
        ensemble,
    )


def _opened(item: Checkpoint | str | Path, models_folder: Path | None) -> Checkpoint:
    checkpoint = item if isinstance(item, Checkpoint) else load_checkpoint(item, models_folder)
    if checkpoint.card.task != "segmentation":
        raise ProstateXferError(
            f"'{checkpoint.card.name}' is a {checkpoint.card.task} model and cannot segment: choose a "
            "segmentation model (prostatexfer models)."
        )
    return checkpoint
