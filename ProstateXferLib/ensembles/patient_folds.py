# SPDX-License-Identifier: Apache-2.0
"""Outer folds: whole patients, so that no one's second study tells of the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class OuterFold:
    """`choosing` cases choose the ensemble, `reporting` ones tell what it is worth; no patient is on both sides."""

    choosing: tuple[str, ...]
    reporting: tuple[str, ...]


def patient_folds(
    cases: Sequence[str], patients: Mapping[str, str] | None = None, *, folds: int = 5, seed: int = 0
) -> tuple[OuterFold, ...]:
    """Every case reports in exactly one fold; sizes in patients differ by one at most.

    Args:
        cases: names; the folds do not depend on their order.
        patients: case -> patient; None says that every case is a patient of its own.
        folds: number of folds.
        seed: of the shuffle.

    Raises:
        ProstateXferError: fewer patients than folds, or a case whose patient is unknown.
    """
    owner = patients_of(cases, patients)
    names = sorted(set(owner.values()))
    if not 2 <= folds <= len(names):
        raise ProstateXferError(f"{len(names)} patients cannot make {folds} folds: give 2 to as many as patients.")
    order = np.random.default_rng(seed).permutation(len(names))
    held = [{names[place] for place in part} for part in np.array_split(order, folds)]
    ordered = sorted(cases)
    return tuple(
        OuterFold(
            tuple(case for case in ordered if owner[case] not in out),
            tuple(case for case in ordered if owner[case] in out),
        )
        for out in held
    )


def patients_of(cases: Sequence[str], patients: Mapping[str, str] | None) -> dict[str, str]:
    """The patient of each case; None says that every case is a patient of its own."""
    if patients is None:
        return {case: case for case in cases}
    if unknown := [case for case in cases if case not in patients]:
        raise ProstateXferError(f"The patient of the case '{unknown[0]}' is unknown: name one for every case.")
    return {case: patients[case] for case in cases}
