# SPDX-License-Identifier: Apache-2.0
"""How undecided a segmentation is, voxel by voxel."""

from collections.abc import Iterable

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid


def uncertainty_map(probabilities: Iterable[sitk.Image]) -> sitk.Image:
    """Binary entropy in bits of each structure's probability, and of these the largest at each voxel.

    h(p) = -p log2 p - (1 - p) log2(1 - p): 0 where the model is sure that a structure is there or is not, 1 at p = 0.5,
    which is where the outline runs. float32 on the probabilities' own grid. It says how undecided the model is and not
    how wrong it may be, and knows nothing of the rules (largest piece, smallest volume) that follow the probabilities.

    Args:
        probabilities: float images in 0..1 on one grid, one for each structure.
    """
    largest: np.ndarray | None = None
    grid: Grid | None = None
    for image in probabilities:
        entropy = binary_entropy_bits(sitk.GetArrayFromImage(image))
        if largest is None:
            largest, grid = entropy, Grid.of(image)
        else:
            np.maximum(largest, entropy, out=largest)
    if largest is None or grid is None:
        raise ProstateXferError("There is no probability to take the uncertainty of: choose a task that segments.")
    return grid.image(largest)


def binary_entropy_bits(probability: np.ndarray) -> np.ndarray:
    """float32, the shape of `probability`; values that rounding carried out of 0..1 count as 0 or 1."""
    p = np.clip(probability, 0, 1).astype(np.float64)
    entropy = np.zeros(p.shape, dtype=np.float32)
    open_ = (p > 0) & (p < 1)  # 0 log 0 is 0
    inside = p[open_]
    # log1p keeps the small term exact where p is near 0.
    entropy[open_] = -(inside * np.log2(inside) + (1 - inside) * np.log1p(-inside) / np.log(2))
    return entropy
