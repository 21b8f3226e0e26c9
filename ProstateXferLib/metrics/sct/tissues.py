# SPDX-License-Identifier: Apache-2.0
"""Scores of a synthetic CT in air, soft tissue and bone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.masks import Mask
from ProstateXferLib.metrics.sct.hu_volumes import Where, inside_of
from ProstateXferLib.metrics.sct.scores import SctScores, sct_scores


@dataclass(frozen=True)
class TissueClass:
    """Voxels whose true HU lie from `lower_hu` to `upper_hu`, ends as flagged; `hu_range` is for PSNR and SSIM."""

    name: str
    lower_hu: float
    upper_hu: float
    hu_range: tuple[float, float]
    includes_ends: bool


TISSUE_CLASSES = (
    TissueClass("air", -math.inf, -250.0, (-1024.0, -250.0), False),
    TissueClass("soft tissue", -250.0, 250.0, (-250.0, 250.0), True),
    TissueClass("bone", 250.0, math.inf, (250.0, 2000.0), False),
)
"""The three classes of DGCF's evaluation (arXiv 2511.12098, public code), each with its own range; what lies beyond
-1024 or 2000 HU belongs to the outer ones. -250 and 250 HU themselves are soft tissue here, so that no voxel counts
twice."""


def tissue_mask(reference: Mask, tissue: TissueClass) -> np.ndarray:
    """True (z, y, x) where the reference CT is of the class."""
    ct = sitk.GetArrayFromImage(reference) if isinstance(reference, sitk.Image) else np.asarray(reference)
    if tissue.includes_ends:
        return (ct >= tissue.lower_hu) & (ct <= tissue.upper_hu)
    return (ct > tissue.lower_hu) & (ct < tissue.upper_hu)


def scores_by_tissue(
    reference: Mask,
    prediction: Mask,
    mask: Where = None,
    *,
    classes: Sequence[TissueClass] = TISSUE_CLASSES,
    similarity: bool = True,
) -> dict[str, SctScores]:
    """The scores within each class of the true CT and the mask, by the class's name; PSNR and SSIM in its own range.

    DGCF's evaluation takes the classes of the whole image (`mask=None`); with the body as a mask "air" is the gas in
    it. A class without a voxel has NaN and 0 voxels.
    """
    inside = inside_of(reference, mask)
    found = {}
    for tissue in classes:
        within: Mask = inside & tissue_mask(reference, tissue)
        if isinstance(reference, sitk.Image):
            within = Grid.of(reference).image(within.astype(np.uint8))
        found[tissue.name] = sct_scores(reference, prediction, within, tissue.hu_range, similarity=similarity)
    return found
