# SPDX-License-Identifier: Apache-2.0
"""How far apart two surfaces are: HD, HD95, ASSD, MASD and NSD of a case in one call, each distance computed once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.empty_masks import (
    EmptyRule,
    check_empty_rule,
    distance_mm_of_empty,
    similarity_of_empty,
)
from ProstateXferLib.metrics.masks import Mask, mask_pair
from ProstateXferLib.metrics.surface_distances import surface_distances_mm
from ProstateXferLib.metrics.surface_elements import SurfaceElements, boundary_voxels, surfels

SurfaceDefinition = Literal["voxel", "surfel"]

# A distance equal to the tolerance counts as within it. A spacing that was stored in single precision (NIfTI) makes
# ten voxels of 0.3 mm 3.0000001 mm; MONAI rounds distances to single precision, too.
_ROUNDING = 1e-6
# Sums of areas that are equal on paper differ by less than this.
_SUMMATION = 1e-9


@dataclass(frozen=True)
class SurfaceMetrics:
    """Distances in mm between the surfaces of a reference R and a prediction P; d(R) are those of R's elements to P.

    `hd` is the largest distance; `hd95` the larger of the `percentile`s (95 unless asked otherwise) of d(R) and d(P);
    `assd` the mean over all elements of both; `masd` the mean of the two means; `nsd` maps each tolerance in mm to the
    share of both surfaces that lies at most so far from the other. Elements are voxels of equal weight or surfels
    weighted by their area, by `definition`.
    """

    hd: float
    hd95: float
    assd: float
    masd: float
    nsd: dict[float, float]
    percentile: float
    definition: SurfaceDefinition


def surface_metrics(
    reference: Mask,
    prediction: Mask,
    spacing: Sequence[float] | None = None,
    *,
    tolerances_mm: Sequence[float] = (1, 2),
    percentile: float = 95,
    definition: SurfaceDefinition = "voxel",
    empty: EmptyRule = "best_worst",
) -> SurfaceMetrics:
    """Compare the surfaces of two masks; whatever is not zero is inside.

    The masks are arrays (z, y, x) with their `spacing` (z, y, x) in mm, or two `SimpleITK.Image`s on one grid, which
    carry their own and may be oblique. Arrays (y, x) with spacing (y, x) are compared as 2-D contours.

    `definition="voxel"`: a surface is the voxels that erosion by the face neighbours takes away, at their centres, and
    percentiles are interpolated: the numbers of MONAI and MetricsReloaded. `definition="surfel"`: it is the voxel
    corners at which inside and outside meet, weighted by the area of the surface there, and a percentile is the first
    distance at which that share of the area is reached: the numbers of DeepMind's surface-distance. The two differ by
    up to a voxel on the same masks, so a report has to say which one it used. Both take a distance that equals the
    tolerance on paper as within it, where surface-distance leaves that to rounding.

    Empty masks follow `empty_masks`: with one mask empty, distances are NaN (`empty="penalty"`: the image's diagonal)
    and NSD is 0; with both empty, 0 mm and 1 (`empty="nan"`: NaN).
    """
    check_empty_rule(empty)
    tolerances = tuple(float(t) for t in np.ravel(tolerances_mm))
    _check_options(tolerances, percentile, definition)
    reference_mask, prediction_mask = mask_pair(reference, prediction)
    spacing_mm = _checked_spacing(reference, reference_mask.ndim, spacing)
    first, second = _surfaces(reference_mask, prediction_mask, spacing_mm, definition)
    if first is None or second is None:
        both = first is second
        diagonal_mm = math.hypot(*(n * s for n, s in zip(reference_mask.shape, spacing_mm, strict=True)))
        distance = distance_mm_of_empty(empty, both=both, diagonal_mm=diagonal_mm)
        nsd = dict.fromkeys(tolerances, similarity_of_empty(empty, both=both))
        return SurfaceMetrics(distance, distance, distance, distance, nsd, float(percentile), definition)
    sides = _distances_and_weights(first, second, spacing_mm)
    sums = [(float(np.dot(d, w)), float(w.sum())) for d, w in sides]
    total = sums[0][1] + sums[1][1]
    percentile_of = _weighted_percentile if definition == "surfel" else _percentile
    return SurfaceMetrics(
        hd=max(float(d.max()) for d, _ in sides),
        hd95=max(percentile_of(d, w, percentile) for d, w in sides),
        assd=(sums[0][0] + sums[1][0]) / total,
        masd=(sums[0][0] / sums[0][1] + sums[1][0] / sums[1][1]) / 2,
        nsd={t: sum(float(w[d <= t * (1 + _ROUNDING)].sum()) for d, w in sides) / total for t in tolerances},
        percentile=float(percentile),
        definition=definition,
    )


def _surfaces(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...], definition: SurfaceDefinition
) -> tuple[SurfaceElements | None, SurfaceElements | None]:
    """The elements of both surfaces, None for an empty mask; bool arrays (z, y, x) or (y, x)."""
    flat = reference.ndim == 2
    masks = [mask[None] if flat else mask for mask in (reference, prediction)]
    if definition == "voxel":
        return tuple(boundary_voxels(mask, flat=flat) for mask in masks)
    return tuple(surfels(mask, _three(spacing_mm), flat=flat) for mask in masks)


def _distances_and_weights(
    first: SurfaceElements, second: SurfaceElements, spacing_mm: tuple[float, ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For both surfaces the distance of each element to the other surface in mm, (N,), and its weight, (N,)."""
    distances = surface_distances_mm(first, second, _three(spacing_mm))
    return [
        (d, np.ones(len(d)) if surface.weights is None else surface.weights)
        for d, surface in zip(distances, (first, second), strict=True)
    ]


def _percentile(distances_mm: np.ndarray, _weights: np.ndarray, percentile: float) -> float:
    """Interpolated between neighbouring order statistics."""
    return float(np.percentile(distances_mm, percentile))


def _weighted_percentile(distances_mm: np.ndarray, weights: np.ndarray, percentile: float) -> float:
    """The least distance up to which the weights reach `percentile` per cent of their sum."""
    order = np.argsort(distances_mm)
    reached = np.cumsum(weights[order])
    index = np.searchsorted(reached, percentile / 100 * reached[-1] * (1 - _SUMMATION))
    return float(distances_mm[order[min(int(index), len(order) - 1)]])


def _check_options(tolerances_mm: Sequence[float], percentile: float, definition: str) -> None:
    """Raise `ProstateXferError` for options that have no meaning."""
    wrong = [t for t in tolerances_mm if not (math.isfinite(t) and t >= 0)]
    if wrong:
        raise ProstateXferError(f"The tolerance {wrong[0]} mm is not possible; tolerances are 0 mm or more.")
    if not 0 < percentile <= 100:
        raise ProstateXferError(f"The percentile {percentile} is not possible; give one above 0 and up to 100.")
    if definition not in get_args(SurfaceDefinition):
        raise ProstateXferError(
            f"definition='{definition}' is unknown; use one of {', '.join(get_args(SurfaceDefinition))}."
        )


def _checked_spacing(mask: Mask, axes: int, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """mm along each axis of the array: an image's own, or the one that must come with an array."""
    if isinstance(mask, sitk.Image):
        if spacing is not None:
            raise ProstateXferError("An image carries its own spacing; pass a spacing with bare arrays only.")
        return Grid.of(mask).spacing_zyx
    if spacing is None:
        raise ProstateXferError("A bare array needs its spacing (z, y, x) in mm; or pass two SimpleITK images.")
    values = tuple(float(s) for s in np.ravel(spacing))
    if axes not in (2, 3) or len(values) != axes:
        raise ProstateXferError(
            f"Masks of {axes} axes with {len(values)} spacings cannot be compared; pass (z, y, x) or (y, x) for both."
        )
    if not all(math.isfinite(s) and s > 0 for s in values):
        raise ProstateXferError(f"The spacing {values} mm is not possible; every one must be finite and above zero.")
    return values


def _three(spacing_mm: tuple[float, ...]) -> tuple[float, float, float]:
    """The spacing (z, y, x); a 2-D contour lies in a slice of 1 mm, so that its areas in mm² are lengths in mm."""
    return (1.0, *spacing_mm)[-3:]
