# SPDX-License-Identifier: Apache-2.0
"""Which patches iBOT hides: rectangles until the count is nearly reached, single patches for the rest.

Source: Bao et al., BEiT (arXiv 2106.08254), with the numbers of DINOv3 (reference notes 3.4).
"""

import math
import random
from collections.abc import Sequence

import numpy as np

SMALLEST = 4
"""Patches of the smallest rectangle."""
ASPECT = 0.3
"""Rectangles are between this and its inverse as tall as wide."""
TRIES = 10


def block_mask(
    grid: tuple[int, int], count: int, *, rectangles: random.Random, singles: np.random.RandomState, largest: float
) -> np.ndarray:
    """A mask (rows, columns) bool with exactly `count` hidden patches.

    Args:
        grid: rows and columns of patches.
        count: how many to hide.
        rectangles, singles: where the random numbers come from; two generators, as the reference has.
        largest: most patches that one rectangle may add.
    """
    mask = np.zeros(grid, dtype=bool)
    hidden = 0
    while hidden < count:
        added = _add_rectangle(mask, min(count - hidden, largest), rectangles)
        if not added:
            break
        hidden += added
    # Drawn even where nothing is missing, so that the generator's state is the reference's.
    rest = singles.choice(np.flatnonzero(~mask), size=count - hidden, replace=False)
    mask.reshape(-1)[rest] = True
    return mask


def _add_rectangle(mask: np.ndarray, most: float, generator: random.Random) -> int:
    """Hide one rectangle that adds between one and `most` patches; returns how many it added, 0 after ten misses."""
    for _ in range(TRIES):
        area = generator.uniform(SMALLEST, most)
        aspect = math.exp(generator.uniform(math.log(ASPECT), math.log(1 / ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= mask.shape[0] or width >= mask.shape[1]:
            continue
        top = generator.randint(0, mask.shape[0] - height)
        left = generator.randint(0, mask.shape[1] - width)
        block = mask[top : top + height, left : left + width]
        added = block.size - int(block.sum())
        if 0 < added <= most:
            block[:] = True
            return added
    return 0


def masked_counts(crops: int, patches: int, *, share: float, ratio: Sequence[float]) -> list[int]:
    """How many patches are hidden in each crop of a batch: none in most, then evenly more from the lower ratio on.

    `share` of the crops are masked; the i-th of these n gets the upper end of the i-th of n equal steps between the two
    ratios.
    """
    masked = int(crops * share)
    upper = np.linspace(*ratio, masked + 1)[1:]
    return [int(patches * ratio_here) for ratio_here in upper] + [0] * (crops - masked)
