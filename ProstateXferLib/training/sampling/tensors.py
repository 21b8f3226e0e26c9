# SPDX-License-Identifier: Apache-2.0
"""Boxes cut out of prepared cases, padded where they reach beyond the image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.training.cache.prepared import PreparedCase

OUTSIDE_IMAGE = 0.0
"""Padding of images (nnU-Net, notes 4.5): the mean after a z-score."""
OUTSIDE_LABEL = -1
"""Padding of labels (the same): no value of a structure, so that a loss may leave it out."""


def known_flags(case: PreparedCase) -> Tensor:
    """(S,) bool: which of the structures asked for were annotated in this case."""
    return torch.tensor([name in case.known for name in case.structures], dtype=torch.bool)


def cut_box(
    case: PreparedCase, start_zyx: Sequence[int], size_zyx: Sequence[int], *, outside_label: int = OUTSIDE_LABEL
) -> dict[str, Tensor]:
    """One box of a case as a sample; only its voxels are read from disk.

    Args:
        case: a prepared case.
        start_zyx: first voxel, may be negative.
        size_zyx: voxels along each axis; the box may reach beyond the image.
        outside_label: label of the voxels there.

    Returns:
        "image" (C, d, h, w) float32, "labels" (d, h, w) int64 (background where the case has none), "known" (S,) bool.
    """
    image = case.image
    pairs = list(zip(start_zyx, size_zyx, case.shape_zyx, strict=True))
    inside = tuple(slice(min(max(a, 0), n), max(min(a + s, n), 0)) for a, s, n in pairs)
    placed = tuple(slice(i.start - a, i.stop - a) for i, (a, _, _) in zip(inside, pairs, strict=True))
    box = np.full((len(image), *size_zyx), OUTSIDE_IMAGE, np.float32)
    labels = np.full(tuple(size_zyx), outside_label, np.int64)
    if all(i.start < i.stop for i in inside):
        box[:, *placed] = image[:, *inside]
        labels[placed] = case.labels[inside] if case.known else 0
    return {"image": torch.from_numpy(box), "labels": torch.from_numpy(labels), "known": known_flags(case)}
