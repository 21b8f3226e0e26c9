# SPDX-License-Identifier: Apache-2.0
"""Independent random streams from one seed, so that other lesions leave the rest of the patient as it is."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from ProstateXferLib.errors import ProstateXferError


class Stream(IntEnum):
    """What a stream of random numbers is for. The numbers are part of every phantom: never reuse or change one."""

    GLAND = 1
    LESION = 2
    SURROUNDINGS = 3
    DETAILS = 4
    TEXTURE = 5
    T2W_NOISE = 6
    CT_NOISE = 7
    CBCT = 8
    CONTRAST = 9


def generator(seed: int, stream: Stream, *more: int) -> np.random.Generator:
    """The random generator of one purpose; `more` numbers split it further."""
    for number in (seed, *more):
        if number < 0:
            raise ProstateXferError(f"The seed {number} is negative; use a whole number from 0 upwards.")
    return np.random.default_rng([int(seed), int(stream), *map(int, more)])
