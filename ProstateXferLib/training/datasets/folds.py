# SPDX-License-Identifier: Apache-2.0
"""Folds of patients, by number alone: the same everywhere and always."""

from collections.abc import Hashable, Sequence

import numpy as np

from ProstateXferLib.errors import ProstateXferError


def shuffled_folds(count: int, folds: int, seed: int) -> list[tuple[int, ...]]:
    """Positions 0 to count - 1 in `folds` parts: scikit-learn's KFold(folds, shuffle=True, random_state=seed).

    That is nnU-Net's split (folds 5, seed 12345, of the sorted case ids). Each part is sorted; the first
    count % folds parts have one position more than the others.

    Raises:
        ProstateXferError: fewer positions than folds.
    """
    _require(count, folds)
    order = np.arange(count)
    # The old generator, since that is the one whose shuffle scikit-learn uses.
    np.random.RandomState(seed).shuffle(order)
    return [tuple(sorted(int(i) for i in part)) for part in np.array_split(order, folds)]


def balanced_folds(strata: Sequence[Hashable], folds: int, seed: int) -> list[tuple[int, ...]]:
    """Positions in `folds` parts in which every stratum occurs equally often, give or take one.

    The positions of a stratum are shuffled and dealt out like cards; the next stratum goes on where the last one
    stopped, so that the parts' sizes, too, differ by at most one.

    Raises:
        ProstateXferError: fewer positions than folds, or strata of kinds that have no order.
    """
    _require(len(strata), folds)
    order = np.arange(len(strata))
    np.random.RandomState(seed).shuffle(order)
    try:
        dealt = sorted((int(i) for i in order), key=lambda i: strata[i])  # stable: shuffled within a stratum
    except TypeError as error:
        raise ProstateXferError("The values to balance folds by are numbers and words mixed: give one kind.") from error
    return [tuple(sorted(dealt[part::folds])) for part in range(folds)]


def _require(count: int, folds: int) -> None:
    if count < folds:
        raise ProstateXferError(
            f"{count} patients cannot make {folds} folds: set fewer folds, or the rule 'none' or 'fixed'."
        )
