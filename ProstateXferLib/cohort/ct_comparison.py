# SPDX-License-Identifier: Apache-2.0
"""A synthetic CT against a true one on another grid."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.reports.study_page import SyntheticResult, synthesis_errors

AIR_HU = -1024
_RANGE = np.iinfo(np.int16)


@dataclass(frozen=True)
class CtComparison:
    """Images on the synthetic CT's grid.

    Attributes:
        reference: the reference CT, linearly interpolated, HU; air where it has no voxel.
        compared: uint8, 1 inside the reference's body and inside its field of view.
        difference: int16, synthetic minus reference HU, 0 where not compared.
        scores: mean absolute and mean errors in HU (None where a tissue is absent), and the compared share of the
            synthetic CT's body.
    """

    reference: sitk.Image
    compared: sitk.Image
    difference: sitk.Image
    scores: dict[str, float | None]


def compare_cts(synthetic: sitk.Image, reference: sitk.Image) -> CtComparison:
    """Bring the reference to the synthetic CT's grid and compare inside its body and its field of view."""
    grid = Grid.of(synthetic)
    on_grid = resample_to_grid(reference, grid, outside=AIR_HU)
    # Beyond the reference's outer edges both masks are 0: the field of view needs no mask of its own.
    compared = resample_to_grid(body_mask(reference), grid, interpolation="nearest")
    inside = sitk.GetArrayViewFromImage(compared) > 0
    error = sitk.GetArrayFromImage(synthetic).astype(np.float32) - sitk.GetArrayFromImage(on_grid)
    difference = np.where(inside, np.clip(np.rint(error), _RANGE.min, _RANGE.max), 0).astype(np.int16)
    errors = synthesis_errors(SyntheticResult("", synthetic, synthetic, on_grid, compared))
    scores = {f"{name.lower().replace(' ', '_')}_hu": _finite(value) for name, value in errors.items()}
    body = (sitk.GetArrayFromImage(body_mask(synthetic)) > 0) | inside  # a copy: the mask is gone after this line
    scores["compared_fraction"] = float(inside.sum() / body.sum()) if body.any() else 0.0
    return CtComparison(on_grid, compared, grid.image(difference), scores)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
