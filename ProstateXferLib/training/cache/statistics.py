# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation of a training set, for images that are standardised by it (in-domain transfer, papers.md 001)."""

import math
from collections.abc import Sequence

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.slice_choice import drawn_pixels

MASK_PIXELS = 200
"""Slices qualify with more pixels of the prostate than this (papers.md 001)."""


def training_statistics(
    prepared: Sequence[PreparedCase], *, minimum_pixels: int = MASK_PIXELS, channel: int = 0
) -> tuple[float, float]:
    """(mean, standard deviation) over all pixels of all slices that qualify, in float64, whatever the cases' order.

    Give training cases only, prepared with the rule `IntensityRule("standardise", mean=0.0, deviation=1.0)`, which
    leaves voxel values as they are (after N4, where the preprocessing asks for it); what comes out is what the rule of
    the model card gets. The deviation is that of the population (ddof 0).

    Args:
        prepared: cases of the training set.
        minimum_pixels: a slice qualifies with more pixels of structures than this.
        channel: whose statistics.

    Raises:
        ProstateXferError: no slice qualifies, or all pixels are equal.
    """
    count, sums, squares = 0, [], []
    for case in prepared:
        chosen = np.flatnonzero(drawn_pixels(case) > minimum_pixels)
        if not len(chosen):
            continue
        # Fancy indexing reads these slices alone from the map.
        values = case.image[channel][chosen].astype(np.float64)
        count += values.size
        sums.append(values.sum())
        squares.append(np.square(values).sum())
    if not count:
        raise ProstateXferError(
            f"No slice of the training set has more than {minimum_pixels} pixels of a structure: check the masks."
        )
    # Sums that do not depend on the order of the cases, to the last bit.
    mean = math.fsum(sums) / count
    deviation = math.sqrt(max(math.fsum(squares) / count - mean**2, 0.0))
    if not deviation > 1e-6 * max(abs(mean), 1.0):
        raise ProstateXferError("All pixels of the training set are equal: check that the right images were chosen.")
    return mean, deviation
