# SPDX-License-Identifier: Apache-2.0
"""Synthetic pelvises, drawn by the task that trains on them: nothing lies on disk.

    (no folder)

A case stands for one seed of `images/phantom`: it has no images, and its attribute "phantom_seed" says which pelvis
the task draws. Every seed is its own patient.

Options: first_seed (0): seed of the first phantom. count (8): how many.
"""

from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case

PHANTOM_SEED = "phantom_seed"


def find(_folder: Path, first_seed: int = 0, count: int = 8) -> list[Case]:
    """One case for each of the seeds first_seed, first_seed + 1, ...

    Raises:
        ProstateXferError: a seed is negative, or there are none.
    """
    if not (isinstance(first_seed, int) and isinstance(count, int)) or first_seed < 0 or count < 1:
        raise ProstateXferError(
            f"Phantoms need a whole first_seed from 0 and a whole count from 1, not {first_seed!r} and {count!r}."
        )
    names = ((f"phantom-{seed:06d}", seed) for seed in range(first_seed, first_seed + count))
    return [Case(name, name, images={}, attributes={PHANTOM_SEED: seed}) for name, seed in names]
