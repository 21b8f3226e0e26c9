# SPDX-License-Identifier: Apache-2.0
"""The separate pieces of a mask, numbered from the largest."""

import importlib.util

import numpy as np

from ProstateXferLib.errors import ProstateXferError


def components_by_volume(mask_zyx: np.ndarray) -> tuple[np.ndarray, int]:
    """Split a bool array (z, y, x) into its 26-connected components.

    26-connected (faces, edges and corners) is PI-CAI's rule for lesions. Returns an int32 array in which 0 is
    background and 1, 2, ... are the components by decreasing voxel count, and their number. Of two with equal counts
    the one met first in (z, y, x) order comes first, whichever library did the work, so numbers are stable.
    """
    mask_zyx = np.asarray(mask_zyx, dtype=bool)
    if mask_zyx.ndim != 3:
        raise ProstateXferError(f"Components need a 3-D mask; this one has shape {mask_zyx.shape}.")
    if not mask_zyx.any():
        return np.zeros(mask_zyx.shape, dtype=np.int32), 0
    labels = _labelled(mask_zyx)
    inside = labels[mask_zyx]
    found, first, counts = np.unique(inside, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    numbers = np.zeros(int(found.max()) + 1, dtype=np.int32)
    numbers[found[order]] = np.arange(1, len(found) + 1)
    return numbers[labels], len(found)


def _labelled(mask_zyx: np.ndarray) -> np.ndarray:
    """Components in any order; cc3d is 2 to 4 times faster than scipy and is taken when it is installed."""
    if importlib.util.find_spec("cc3d") is not None:
        import cc3d

        return cc3d.connected_components(mask_zyx, connectivity=26)
    from scipy import ndimage

    return ndimage.label(mask_zyx, structure=np.ones((3, 3, 3)))[0]
