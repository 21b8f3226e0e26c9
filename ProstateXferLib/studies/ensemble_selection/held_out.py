# SPDX-License-Identifier: Apache-2.0
"""What trained folds held out, whoever trained them, and the plan of several of them over the same cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import merged_inputs
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.studies.ensemble_selection.plan import Candidate, Plan
from ProstateXferLib.studies.ensemble_selection.planned_files import planned_case
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.masks import HEADER_TOLERANCE_MM, read_sequence


@dataclass(frozen=True)
class HeldOut:
    """Candidates, and the cases that each of their models was not trained on.

    Attributes:
        title: for sentences.
        candidates: each with a model for every case (`Plan` sees to it).
        cases: with their files, by whose ids they are matched with others'.
        cards: of the models, for the sequences that they take.
        warnings: one sentence each.
        recorded: whether the models' own records say so; else it is the word of whoever trained them.
    """

    title: str
    candidates: tuple[Candidate, ...]
    cases: tuple[Case, ...]
    cards: tuple[ModelCard, ...]
    warnings: tuple[str, ...] = ()
    recorded: bool = True


def joined_plan(sources: Sequence[HeldOut], output: Path) -> Plan:
    """The plan of all candidates; references are written as named label maps into `output`, the plan's folder.

    Where several sources have a case, files, patient and reference are the first one's; sequences and structures that
    it lacks are those of the next.

    Raises:
        ProstateXferError: candidates of one name, sources with other cases, models with other first sequences, one
            name for two images, cases without files, or too few candidates.
    """
    _check_names(sources)
    _check_same_cases(sources)
    sequences = merged_inputs([card for source in sources for card in source.cards])
    found: dict[str, Case] = {}
    for source in sources:
        for case in source.cases:
            known = found.get(case.case_id)
            found[case.case_id] = case if known is None else _merged(known, case, sequences[0])
    for case in found.values():
        _check_sequences(case, sequences)
    cases = tuple(planned_case(case, sequences, output) for _, case in sorted(found.items()))
    return Plan(cases, tuple(candidate for source in sources for candidate in source.candidates))


def _check_names(sources: Sequence[HeldOut]) -> None:
    names = [candidate.name for source in sources for candidate in source.candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ProstateXferError(f"Two candidates are called '{twice}': give one of them a name, as ARM=FOLDER.")


def _check_same_cases(sources: Sequence[HeldOut]) -> None:
    """Every candidate predicts the same cases; between sources that is a matter of names."""
    for one, other in _neighbours(sources):
        missing = sorted({case.case_id for case in one.cases} - {case.case_id for case in other.cases})
        if missing:
            notes = "".join(f" {warning}" for warning in (*one.warnings, *other.warnings))
            raise ProstateXferError(
                f"{other.title} held out no case '{missing[0]}' ({len(missing)} of the {len(one.cases)} cases of "
                f"{one.title}): every candidate must predict the same cases, and they are matched by name alone, so "
                f"give the same cases the same names and train the missing folds.{notes}"
            )


def _neighbours(sources: Sequence[HeldOut]) -> Iterator[tuple[HeldOut, HeldOut]]:
    """The first with each other one, both ways."""
    for other in sources[1:]:
        yield sources[0], other
        yield other, sources[0]


def _merged(first: Case, other: Case, sequence: str) -> Case:
    _check_same_image(first, other, sequence)
    return replace(
        first,
        images={**first.images, **{name: path for name, path in other.images.items() if name not in first.images}},
        channels={**first.channels, **{n: k for n, k in other.channels.items() if n not in first.images}},
        masks={**first.masks, **{name: own for name, own in other.masks.items() if name not in first.masks}},
    )


def _check_same_image(first: Case, other: Case, sequence: str) -> None:
    """A name is little to know a patient by: the voxels and where they lie must be the same, too."""
    if sequence not in first.images or first.images[sequence] == other.images.get(sequence):
        return
    one, two = read_sequence(first, sequence), read_sequence(other, sequence)
    if not (
        Grid.of(one).same_as(Grid.of(two), HEADER_TOLERANCE_MM)
        and np.array_equal(sitk.GetArrayViewFromImage(one), sitk.GetArrayViewFromImage(two))
    ):
        raise ProstateXferError(
            f"The case '{first.case_id}' is one image in '{first.images[sequence]}' and another in "
            f"'{other.images[sequence]}': cases are matched by name, so name those alike that are the same image, and "
            "no others."
        )


def _check_sequences(case: Case, sequences: Sequence[str]) -> None:
    missing = [sequence for sequence in sequences if sequence not in case.images]
    if missing and case.images:
        raise ProstateXferError(
            f"The case '{case.case_id}' has no {missing[0]} image (it has {', '.join(case.images)}), which a candidate "
            "takes: complete the data set, or leave the candidate out."
        )
