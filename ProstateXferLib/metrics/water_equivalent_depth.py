# SPDX-License-Identifier: Apache-2.0
"""How much water a beam would cross on its way: what a synthetic CT's HU errors do to a dose, without a dose engine.

The water-equivalent depth of a point is the sum of relative density times path along the beam from where it enters.
Too much of it weakens a photon beam, and a proton stops as many millimetres too early; scatter and the beam's
divergence are left out, so this is a proxy for comparing synthetic CTs and no dose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.orientation import axial_view
from ProstateXferLib.metrics.masks import Mask, bounding_box, grid_of
from ProstateXferLib.metrics.sct.hu_volumes import Where, hu_volumes

Beam = Literal["anterior", "left", "posterior", "right"]
DensityTable = Sequence[tuple[float, float]]

BEAMS: Mapping[Beam, tuple[int, bool]] = {
    "anterior": (1, False),
    "left": (2, True),
    "posterior": (1, True),
    "right": (2, False),
}
"""Where a beam enters a patient on the back: IEC gantry 0, 90, 180 and 270 degrees (head first). With each the axis of
an array (to Superior, to Posterior, to Left) along which it runs, and whether it runs backwards."""

MATRAD_DENSITY: DensityTable = (
    (-1024.0, 0.00324),
    (200.0, 1.2),
    (449.0, 1.20001),
    (2000.0, 2.49066),
    (2048.0, 2.53060),
    (3071.0, 2.53061),
)
"""(HU, density relative to water): the default table of matRad (matRad_default.hlut, github.com/e0404/matRad), which
serves it both as relative electron density for photons and as relative stopping power for particles; linear between
the points, level beyond them. SynthRAD recalculated its doses with matRad. Water itself comes out at 1.0045 and
everything from 200 to 449 HU at 1.2: take your scanner's own table where you know it."""


@dataclass(frozen=True, kw_only=True)
class DepthDifference:
    """Prediction minus reference over the `n_voxels` target voxels of one beam, mm of water; NaN without a voxel.

    `reference_mm` is the mean depth itself, to which the differences belong.
    """

    mean_mm: float
    mean_absolute_mm: float
    max_absolute_mm: float
    reference_mm: float
    n_voxels: int


def water_equivalent_depth_mm(
    ct: Mask,
    beam: Beam,
    *,
    spacing_zyx: Sequence[float] | None = None,
    body: Where = "body",
    table: DensityTable = MATRAD_DENSITY,
) -> np.ndarray:
    """float64 (z, y, x) on the CT's own grid: mm of water from the beam's entry to the centre of every voxel.

    A CT in HU: an image, or an array with its spacing in mm whose axes x, y, z run to Left, Posterior, Superior.
    Beams are parallel and run along the image's axes, of which the one nearest to the patient's is taken; an oblique
    image has oblique beams. Outside the `body` (a mask, or "body" for that of `images.body`) nothing is counted; with
    None the couch is, and the air before the patient, by matRad's table 27 mm of water a metre at -1000 HU.
    """
    volumes = hu_volumes(ct, ct, body)
    return _depth(volumes.reference, volumes.inside, _along(ct, spacing_zyx), beam, table)


def compare_water_equivalent_depth(
    reference: Mask,
    prediction: Mask,
    target: Mask,
    *,
    spacing_zyx: Sequence[float] | None = None,
    body: Where = "body",
    table: DensityTable = MATRAD_DENSITY,
    beams: Sequence[Beam] = tuple(BEAMS),
) -> dict[Beam, DepthDifference]:
    """Difference of the depths of every voxel of the target (the prostate) under each beam, four by default.

    Three images on one grid or arrays (z, y, x) with their spacing. One `body` serves both CTs ("body", the default, is
    that of the reference), so that a synthetic CT is not judged by what it makes of the air around.
    """
    volumes = hu_volumes(reference, prediction, body)
    aimed = hu_volumes(reference, reference, target).inside
    geometry = _along(reference, spacing_zyx)
    differences = {}
    for beam in beams:
        pair = [
            _depth(hu, volumes.inside, geometry, beam, table, aimed)[aimed]
            for hu in (volumes.reference, volumes.prediction)
        ]
        differences[beam] = _difference(*pair)
    return differences


@dataclass(frozen=True)
class _BeamAxes:
    """For each patient axis (to Superior, Posterior, Left): the array axis, whether it is reversed, its spacing."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing_mm: tuple[float, float, float]


def _along(ct: Mask, spacing_zyx: Sequence[float] | None) -> _BeamAxes:
    """How the array's axes lie in the patient."""
    grid = grid_of(ct, spacing_zyx)
    image = ct if isinstance(ct, sitk.Image) else _empty_image(grid)
    view = axial_view(image)
    return _BeamAxes(view.permutation_zyx, view.flips, tuple(grid.spacing_zyx[axis] for axis in view.permutation_zyx))


def _empty_image(grid: Grid) -> sitk.Image:
    """An image of one voxel that lies as the grid does."""
    image = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_xyz)
    image.SetDirection(grid.direction)
    return image


def _depth(
    hu_zyx: np.ndarray,
    inside_zyx: np.ndarray,
    geometry: _BeamAxes,
    beam: Beam,
    table: DensityTable,
    aimed_zyx: np.ndarray | None = None,
) -> np.ndarray:
    """Depths of all voxels, or only of those in the rays that hit `aimed_zyx` (0 elsewhere)."""
    if beam not in BEAMS:
        raise ProstateXferError(f"The beam '{beam}' is unknown; use one of {', '.join(BEAMS)}.")
    patient_axis, backwards = BEAMS[beam]
    axis = geometry.axes[patient_axis]
    backwards = backwards != geometry.flips[patient_axis]
    depth = np.zeros(hu_zyx.shape)
    box = (slice(None),) * 3 if aimed_zyx is None else bounding_box(aimed_zyx)
    if box is None:
        return depth
    rays = tuple(slice(None) if k == axis else part for k, part in enumerate(box))
    path = _density(hu_zyx[rays], table) * inside_zyx[rays] * geometry.spacing_mm[patient_axis]
    onwards = np.flip(path, axis) if backwards else path
    # Half of a voxel lies beyond its centre.
    reached = np.cumsum(onwards, axis=axis) - onwards / 2
    depth[rays] = np.flip(reached, axis) if backwards else reached
    return depth


def _density(hu: np.ndarray, table: DensityTable) -> np.ndarray:
    """Density relative to water."""
    points = np.asarray(table, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not (np.diff(points[:, 0]) > 0).all():
        raise ProstateXferError("A density table needs two or more (HU, density) points with rising HU.")
    return np.interp(hu, points[:, 0], points[:, 1])


def _difference(reference_mm: np.ndarray, prediction_mm: np.ndarray) -> DepthDifference:
    """What is said of one beam."""
    if not reference_mm.size:
        nan = float("nan")
        return DepthDifference(mean_mm=nan, mean_absolute_mm=nan, max_absolute_mm=nan, reference_mm=nan, n_voxels=0)
    steps = prediction_mm - reference_mm
    return DepthDifference(
        mean_mm=float(steps.mean()),
        mean_absolute_mm=float(np.abs(steps).mean()),
        max_absolute_mm=float(np.abs(steps).max()),
        reference_mm=float(reference_mm.mean()),
        n_voxels=reference_mm.size,
    )
