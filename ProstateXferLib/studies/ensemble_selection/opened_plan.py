# SPDX-License-Identifier: Apache-2.0
"""A plan with its checkpoints opened, and checked for what would go wrong after hours of predicting."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import EnsembleMember, is_ensemble, merged_card, names_found
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import canonical_name, name_of
from ProstateXferLib.studies.ensemble_selection.deciding_heads import deciding_heads
from ProstateXferLib.studies.ensemble_selection.plan import Plan


@dataclass(frozen=True)
class OpenedPlan:
    """The plan, and the checkpoint of every path or name that it gives.

    Attributes:
        structure: the one that decides, as the cards call it.
        scored_as: as references and tables call it (`evaluation.label_names.name_of`).
    """

    plan: Plan
    checkpoints: Mapping[Path | str, Checkpoint]
    structure: str
    scored_as: str

    def checkpoint(self, candidate: str, case: str) -> Checkpoint:
        """Who predicts the case for that candidate."""
        return self.checkpoints[self._models(candidate)[case]]

    def checkpoints_of(self, candidate: str) -> tuple[Checkpoint, ...]:
        """The candidate's checkpoints (its folds), each content once."""
        found = {self.checkpoints[model].sha256: self.checkpoints[model] for model in self._models(candidate).values()}
        return tuple(found.values())

    def _models(self, candidate: str) -> Mapping[str, Path | str]:
        return next(one.models for one in self.plan.candidates if one.name == candidate)


def open_plan(plan: Plan, structure: str = "", models_folder: Path | None = None) -> OpenedPlan:
    """Open all checkpoints and see that their mean could be run.

    Args:
        plan: the plan.
        structure: whose metrics decide; "" where all candidates find one alone.
        models_folder: where registered names are looked for first.

    Raises:
        ProstateXferError: a checkpoint that cannot be opened or is an ensemble itself, models that cannot be averaged,
            or a structure that one of them does not find.
    """
    wanted = dict.fromkeys(model for candidate in plan.candidates for model in candidate.distinct_models)
    checkpoints = {model: load_checkpoint(model, models_folder) for model in wanted}
    for checkpoint in checkpoints.values():
        _check_kind(checkpoint)
    cards = [checkpoint.card for checkpoint in checkpoints.values()]
    chosen = _known_name(structure, cards) if structure else _only_structure(cards)
    for card in cards:
        deciding_heads(card, chosen)
    card_together((checkpoint, 1.0) for checkpoint in checkpoints.values())
    meant = next(one for card in cards for one in card.structures if one.name == chosen)
    return OpenedPlan(plan, checkpoints, chosen, name_of(meant))


def card_together(pairs: Iterable[tuple[Checkpoint, float]], average: str = "probability") -> ModelCard:
    """The card that an ensemble of (checkpoint, weight) pairs has: structures and rules; of one given twice the weights
    add up.

    Raises:
        ProstateXferError: they cannot be averaged.
    """
    merged: dict[str, tuple[Checkpoint, float]] = {}
    for checkpoint, weight in pairs:
        merged[checkpoint.sha256] = (checkpoint, weight + merged.get(checkpoint.sha256, (checkpoint, 0.0))[1])
    total = math.fsum(weight for _, weight in merged.values())
    members = [
        EnsembleMember(one.card.name, sha256, weight / total, one.path.name) for sha256, (one, weight) in merged.items()
    ]
    cards = [one.card for one, _ in merged.values()]
    return merged_card(cards, members, average=average, name="selection")


def _check_kind(checkpoint: Checkpoint) -> None:
    card = checkpoint.card
    if card.task != "segmentation":
        raise ProstateXferError(f"'{card.name}' is a {card.task} model and cannot segment: leave it out of the plan.")
    if is_ensemble(card):
        raise ProstateXferError(f"'{card.name}' is an ensemble itself: make its members candidates, one by one.")


def _known_name(structure: str, cards: list[ModelCard]) -> str:
    """The cards' own word for what the user calls "gland"."""
    own = {one.name for card in cards for one in card.structures}
    same = [one.name for card in cards for one in card.structures if name_of(one) == canonical_name(structure)]
    return structure if structure in own or not same else same[0]


def _only_structure(cards: list[ModelCard]) -> str:
    found = {name for card in cards for head in card.heads for name in names_found(card, head)}
    if len(found) != 1:
        raise ProstateXferError(
            f"The candidates find {', '.join(sorted(found))}: say by --structure which of them decides."
        )
    return found.pop()
