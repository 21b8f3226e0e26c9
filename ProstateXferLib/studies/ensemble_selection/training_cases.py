# SPDX-License-Identifier: Apache-2.0
"""Whether a model was trained on a case that it predicts, as far as its card can tell.

Cards hold the hashed ids of the cases of every stage that was trained here (docs/training.md, "Contracts"). A case of
the plan that has the id of a training case is found; one that has another name in the plan, or a model from elsewhere,
is not: who makes the plan has to know.
"""

from collections.abc import Iterator
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.studies.ensemble_selection.case_hashes import hashed_case
from ProstateXferLib.studies.ensemble_selection.opened_plan import OpenedPlan


def check_not_trained_on(opened: OpenedPlan) -> list[str]:
    """Refuse models whose last stage trained on a case that they are to predict; tell of those whose start did.

    An earlier stage may have been self-supervised, which is not told by its record, so it is a warning. So is an
    nnU-Net from elsewhere, of which nothing is on record.

    Raises:
        ProstateXferError: a model, and the first case that it was trained on.
    """
    earlier: dict[tuple[str, str], int] = {}
    for candidate in opened.plan.candidates:
        for case in candidate.models:
            card = opened.checkpoint(candidate.name, case).card
            for stage in _stages_that_saw(case, card):
                if stage == len(card.history) - 1:
                    raise ProstateXferError(
                        f"The model '{card.name}' of the candidate '{candidate.name}' was trained on the case '{case}' "
                        "by its own card: give that case to a fold that did not see it."
                    )
                key = (candidate.name, str(card.history[stage].get("stage", stage + 1)))
                earlier[key] = earlier.get(key, 0) + 1
    return [
        f"An earlier stage ('{stage}') of the candidate '{name}' was trained on {count} of the cases: unless it was "
        "self-supervised, what the candidate says of them is too good."
        for (name, stage), count in earlier.items()
    ] + _unrecorded(opened)


def _unrecorded(opened: OpenedPlan) -> list[str]:
    """Candidates with an nnU-Net that was not trained here."""
    return [
        f"No record tells which cases the nnU-Net models of the candidate '{name}' were trained on: that each case is "
        "predicted by one that did not see it is the plan's word, and nothing here could check it."
        for name in opened.plan.names
        if any(_is_foreign_nnunet(one.card) for one in opened.checkpoints_of(name))
    ]


def _is_foreign_nnunet(card: ModelCard) -> bool:
    ours = any(_trained_ids(entry) for entry in card.history)
    return card.preprocessing is not None and card.preprocessing.nnunet is not None and not ours


def _stages_that_saw(case: str, card: ModelCard) -> Iterator[int]:
    """Numbers of the entries of the card's history whose training cases hold this id."""
    digest = hashed_case(case)
    for number, entry in enumerate(card.history):
        if digest in _trained_ids(entry):
            yield number


def _trained_ids(entry: Any) -> list[str]:
    """The record's word where it has one; foreign and federated entries have others."""
    ids = entry
    for key in ("split", "ids", "train"):
        ids = ids.get(key) if isinstance(ids, dict) else None
    return ids if isinstance(ids, list) else []
