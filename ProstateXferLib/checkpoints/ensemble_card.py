# SPDX-License-Identifier: Apache-2.0
"""The card of an ensemble: which checkpoints are averaged, how, and what they find together (docs/ensembles.md)."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any

from ProstateXferLib.checkpoints.architectures import ENSEMBLE
from ProstateXferLib.checkpoints.card import Head, ModelCard, Score
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import Structure

AVERAGES = ("probability", "logit")
MEMBERS_SUFFIX = ".members"
"""Of the folder beside NAME.safetensors with copies of members; no list shows what lies in it."""
_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST_SUM_ERROR = 1e-6
_NOT_STATED = "not stated"


@dataclass(frozen=True)
class EnsembleMember:
    """One checkpoint of an ensemble.

    Attributes:
        name: in its card; for people alone.
        sha256: of its file (of an nnU-Net folder: `import_nnunet.nnunet_sha256`); what it is found by.
        weight: above 0; all members' weights sum to 1.
        file: where to look first, relative to the ensemble's folder, with "/"; never upwards.
    """

    name: str
    sha256: str
    weight: float
    file: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if not self.file or path.is_absolute() or ".." in path.parts or "\\" in self.file or ":" in self.file:
            raise ProstateXferError(
                f"The ensemble's member '{self.name}' is looked for at '{self.file}', which leaves the ensemble's "
                "folder: get the file from someone you trust."
            )
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ProstateXferError(f"The ensemble's member '{self.name}' has no sha256: make the ensemble anew.")
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not (number and math.isfinite(self.weight) and self.weight > 0):
            raise ProstateXferError(
                f"The ensemble's member '{self.name}' has the weight {self.weight}: weights are above 0."
            )


def is_ensemble(card: ModelCard) -> bool:
    """Whether the checkpoint names others instead of holding weights."""
    return card.architecture == ENSEMBLE


def members_of(card: ModelCard) -> tuple[EnsembleMember, ...]:
    """The members that an ensemble's card names.

    Raises:
        ProstateXferError: malformed, a member twice, or weights that do not sum to 1.
    """
    entries, wanted = card.arguments.get("members"), {field.name for field in fields(EnsembleMember)}
    if not isinstance(entries, list) or not entries:
        raise ProstateXferError(f"The ensemble '{card.name}' names no members: make it anew.")
    if any(not isinstance(entry, dict) or set(entry) != wanted for entry in entries):
        raise ProstateXferError(
            f"The ensemble '{card.name}' is malformed: each member has {', '.join(sorted(wanted))}; make it anew."
        )
    if any(not isinstance(entry[name], str) for entry in entries for name in ("name", "file")):
        raise ProstateXferError(f"The ensemble '{card.name}' is malformed: names and files are texts; make it anew.")
    members = tuple(EnsembleMember(**entry) for entry in entries)
    if len({member.sha256 for member in members}) < len(members):
        raise ProstateXferError(f"The ensemble '{card.name}' names a member twice: give it the sum of the weights.")
    if abs(math.fsum(member.weight for member in members) - 1) > _LARGEST_SUM_ERROR:
        raise ProstateXferError(f"The weights of the ensemble '{card.name}' do not sum to 1: make it anew.")
    return members


def average_of(card: ModelCard) -> str:
    """ "probability" or "logit"."""
    return checked_average(card.arguments.get("average"))


def checked_average(average: Any) -> str:
    """The word, if it is one of `AVERAGES`."""
    if average not in AVERAGES:
        raise ProstateXferError(f"Members are averaged by {' or '.join(AVERAGES)}, not by '{average}'.")
    return average


def merged_card(
    cards: Sequence[ModelCard],
    members: Sequence[EnsembleMember],
    *,
    average: str = "probability",
    name: str,
    title: str = "",
    scores: Sequence[Score] = (),
    history: Sequence[dict[str, Any]] = (),
) -> ModelCard:
    """The card of an ensemble of these models.

    Args:
        cards, members: in the same order.
        average: one of `AVERAGES`.
        name, title, scores, history: of the ensemble.

    Raises:
        ProstateXferError: the models cannot be averaged (`check_together`), or see different first sequences.
    """
    checked_average(average)
    check_together(cards)
    order = sorted(range(len(cards)), key=lambda place: -members[place].weight)  # stable: of equals the first
    ranked = [cards[place] for place in order]
    structures = merged_structures(ranked)
    values = {structure.name: structure.value for structure in structures}
    heads: dict[frozenset[str], Head] = {}
    for card in ranked:
        for head in card.heads:
            found = names_found(card, head)
            number = len(heads) + 1
            own = replace(head, name=f"{number} {head.name}", values=tuple(values[name] for name in found))
            heads.setdefault(frozenset(found), own)
    card = ModelCard(
        name=name,
        task="segmentation",
        architecture=ENSEMBLE,
        title=title or f"{len(cards)} models, averaged by {average}",
        arguments={"average": average, "members": [asdict(member) for member in members]},
        inputs=merged_inputs(cards),
        structures=structures,
        heads=tuple(heads.values()),
        training_data=_together(cards, "training_data"),
        licence=_together(cards, "licence"),
        citation=_together(cards, "citation"),
        scores=tuple(scores),
        history=tuple(history),
    )
    members_of(card)
    return card


def merged_inputs(cards: Sequence[ModelCard]) -> tuple[str, ...]:
    """The sequences that the models need together; the first one, on whose grid the result lies, is everyone's.

    Raises:
        ProstateXferError: two models have different first sequences.
    """
    first = cards[0]
    for card in cards:
        if card.inputs[0] != first.inputs[0]:
            raise ProstateXferError(
                f"'{first.name}' takes {', '.join(first.inputs)} and '{card.name}' takes {', '.join(card.inputs)}: "
                "only models with the same first sequence lie on one grid and can be averaged; run them one after the "
                "other."
            )
    return tuple(dict.fromkeys(sequence for card in cards for sequence in card.inputs))


def check_together(cards: Sequence[ModelCard]) -> None:
    """Refuse models of different first sequences, and heads that share some of their structures but not all.

    Raises:
        ProstateXferError: naming the two models.
    """
    merged_inputs(cards)
    kinds: dict[str, tuple[frozenset[str], bool, ModelCard]] = {}
    for card in cards:
        for head in card.heads:
            found = frozenset(names_found(card, head))
            for name in found:
                known, overlapping, owner = kinds.setdefault(name, (found, head.overlapping, card))
                if overlapping != head.overlapping:
                    raise ProstateXferError(
                        f"'{owner.name}' and '{card.name}' both find {name}, but only one of them as a region that may "
                        "overlap others: run them one after the other."
                    )
                if known != found:
                    raise ProstateXferError(
                        f"'{owner.name}' and '{card.name}' both find {name}, but among different structures "
                        f"({', '.join(sorted(known))}; {', '.join(sorted(found))}): run them one after the other."
                    )


def names_found(card: ModelCard, head: Head) -> list[str]:
    """Names of the structures of a head, in the order of its channels."""
    names = {structure.value: structure.name for structure in card.structures}
    return [names[value] for value in head.values]


def merged_structures(cards: Sequence[ModelCard]) -> tuple[Structure, ...]:
    """Structures of all cards by name, the first card's word counting; no value may be claimed by two names.

    Raises:
        ProstateXferError: two structures with one label value.
    """
    by_name = {structure.name: structure for card in reversed(cards) for structure in card.structures}
    owners: dict[int, str] = {}
    for structure in by_name.values():
        if structure.value in owners:
            raise ProstateXferError(
                f"Two of the chosen models use label {structure.value} for different structures "
                f"({owners[structure.value]}, {structure.name}): run them one after the other."
            )
        owners[structure.value] = structure.name
    return tuple(sorted(by_name.values(), key=lambda structure: structure.value))


def _together(cards: Sequence[ModelCard], field: str) -> str:
    """What the cards say in a field, each thing once; who says nothing is named."""
    said = dict.fromkeys(getattr(card, field) for card in cards if getattr(card, field) not in ("", _NOT_STATED))
    silent = list(dict.fromkeys(card.name for card in cards if getattr(card, field) in ("", _NOT_STATED)))
    if not said:
        return "" if field == "citation" else _NOT_STATED
    text = "; ".join(said)
    return text if not silent or field == "citation" else f"{text}; {_NOT_STATED} for {', '.join(silent)}"
