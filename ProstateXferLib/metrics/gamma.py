# SPDX-License-Identifier: Apache-2.0
"""Gamma of two dose distributions, by the package pymedphys (an optional extra)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.masks import Mask, check_same_grid, foreground, grid_of
from ProstateXferLib.metrics.optional_package import optional_package


@dataclass(frozen=True)
class GammaResult:
    """Gamma where it was evaluated; `gamma_zyx` is NaN elsewhere.

    `pass_rate_percent` and `mean_gamma` are over the `n_evaluated` voxels, NaN without one; values above the largest
    gamma looked for are that largest gamma.
    """

    pass_rate_percent: float
    mean_gamma: float
    n_evaluated: int
    gamma_zyx: np.ndarray


def gamma_index(
    reference_dose: Mask,
    evaluated_dose: Mask,
    *,
    spacing_zyx: Sequence[float] | None = None,
    mask: Mask | None = None,
    dose_percent: float = 2.0,
    distance_mm: float = 2.0,
    local: bool = False,
    cutoff_percent: float = 10.0,
    max_gamma: float = 2.0,
    interpolation_fraction: int = 10,
) -> GammaResult:
    """Gamma index (Low et al., Med Phys 1998;25:656-661) of two doses, arrays (z, y, x) or images on one grid.

    Dose in Gy or any one unit. The dose criterion is `dose_percent` of the reference's maximum, or with `local` of
    the reference's dose at each voxel. Voxels below `cutoff_percent` of the maximum are not evaluated, nor those
    outside `mask`. SynthRAD takes 2 % / 2 mm inside the region of interest (SynthRAD2023 and 2025, dose evaluation).
    Needs pymedphys and numba; everything is searched in steps of distance / `interpolation_fraction`.
    """
    check_same_grid(reference_dose, evaluated_dose, ("reference dose", "evaluated dose"))
    if mask is not None:
        check_same_grid(reference_dose, mask, ("reference dose", "mask"))
    grid = grid_of(reference_dose, spacing_zyx)
    doses = [_dose(dose, what) for dose, what in ((reference_dose, "reference"), (evaluated_dose, "evaluated"))]
    package = optional_package("pymedphys", "dose", "Gamma values")
    optional_package("numba", "dose", "Gamma values")  # pymedphys does not ask for it when it is installed
    axes = _axes_mm(grid)
    gamma_zyx = package.gamma(
        axes,
        doses[0],
        axes,
        doses[1],
        dose_percent,
        distance_mm,
        lower_percent_dose_cutoff=cutoff_percent,
        interp_fraction=interpolation_fraction,
        max_gamma=max_gamma,
        local_gamma=local,
    )
    if mask is not None:
        gamma_zyx = np.where(foreground(mask), gamma_zyx, np.nan)
    values = gamma_zyx[~np.isnan(gamma_zyx)]
    if not values.size:
        return GammaResult(math.nan, math.nan, 0, gamma_zyx)
    return GammaResult(
        100 * float(np.count_nonzero(values <= 1)) / values.size, float(values.mean()), values.size, gamma_zyx
    )


def _dose(dose: Mask, what: str) -> np.ndarray:
    """float64 (z, y, x)."""
    foreground(dose, f"{what} dose")
    array = sitk.GetArrayFromImage(dose) if isinstance(dose, sitk.Image) else np.asarray(dose)
    if array.min(initial=0) < 0 or not array.any():
        raise ProstateXferError(f"The {what} dose must be above zero somewhere and below zero nowhere.")
    return array.astype(np.float64)


def _axes_mm(grid: Grid) -> tuple[np.ndarray, ...]:
    """Positions of the voxels along z, y and x; gamma knows distances only, so origin and direction do not matter."""
    return tuple(np.arange(size) * spacing for size, spacing in zip(grid.shape_zyx, grid.spacing_zyx, strict=True))
