# SPDX-License-Identifier: Apache-2.0
"""The whole of a structure whose parts carry labels of their own: the prostate including the lesions in it."""

from collections.abc import Sequence

import numpy as np

from ProstateXferLib.images.structures import PROSTATE, Structure

_ANATOMY = PROSTATE.category


def whole_structure_mask(labels_zyx: np.ndarray, structure: Structure, structures: Sequence[Structure]) -> np.ndarray:
    """bool (z, y, x): the structure's own voxels and those of its parts, which a label map cannot both show.

    Anatomical parts (zones, however named) belong to the whole by definition. Altered parts (lesions) count only in
    those connected components (26 neighbours) that touch the rest: a lesion found in a bone is not prostate. The
    structure itself may be missing from `structures`, as where a model labels zones only.
    """
    own = [s.value for s in structures if s.name == structure.name]
    parts = _parts_of(structure, structures)
    certain = np.isin(labels_zyx, [*own, *(part.value for part in parts if part.category == _ANATOMY)])
    altered_values = [part.value for part in parts if part.category != _ANATOMY]
    if not altered_values or not certain.any():
        return certain
    altered = np.isin(labels_zyx, altered_values)
    return certain | _components_touching(altered, certain)


def _parts_of(structure: Structure, structures: Sequence[Structure]) -> list[Structure]:
    """The structures that are part of this one, directly or through another; a circle of parts ends."""
    found: list[Structure] = []
    wholes = {structure.name}
    while new := [s for s in structures if s.part_of in wholes and s not in found and s.name != structure.name]:
        found += new
        wholes = {s.name for s in new}
    return found


def _components_touching(mask_zyx: np.ndarray, seed_zyx: np.ndarray) -> np.ndarray:
    """bool (z, y, x): the components of the mask with a voxel among the 26 neighbours of the seed, or in it."""
    from scipy import ndimage

    touching = np.zeros_like(mask_zyx)
    if not mask_zyx.any():
        return touching
    # The work is done in the mask's bounding box and one voxel around: lesions are small, volumes are not.
    box = tuple(
        slice(max(0, int(indices[0]) - 1), int(indices[-1]) + 2)
        for indices in (np.flatnonzero(mask_zyx.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1)))
    )
    neighbours = np.ones((3, 3, 3), dtype=bool)
    components, _ = ndimage.label(mask_zyx[box], structure=neighbours)
    beside_seed = ndimage.binary_dilation(seed_zyx[box], structure=neighbours)
    touching[box] = np.isin(components, np.setdiff1d(components[beside_seed], [0]))
    return touching
