# SPDX-License-Identifier: Apache-2.0
"""A pelvis drawn from a seed: analytic shapes in patient LPS mm, and the exact truth about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid
from ProstateXferLib.images.phantom.gland import Gland, draw_gland
from ProstateXferLib.images.phantom.parts import Part
from ProstateXferLib.images.phantom.scene import scene
from ProstateXferLib.images.phantom.surroundings import Surroundings, draw_surroundings
from ProstateXferLib.images.structures import (
    BLADDER,
    DIL,
    FEMORAL_HEAD_LEFT,
    FEMORAL_HEAD_RIGHT,
    PERIPHERAL_ZONE,
    PROSTATE,
    TRANSITION_ZONE,
)

if TYPE_CHECKING:
    from ProstateXferLib.images.phantom.render import PhantomStudy


@dataclass(frozen=True)
class Truth:
    """What a perfect measurement of one structure gives: volume in cm3 and centroid in LPS mm."""

    volume_cm3: float
    centroid_lps: tuple[float, float, float]


@dataclass(frozen=True)
class Phantom:
    """The anatomy of one digital patient. Coordinates are LPS mm, the origin lies near the centre of the prostate."""

    seed: int
    gland: Gland
    around: Surroundings

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the renderer paints, in this order."""
        return scene(self.seed, self.gland, self.around)

    @property
    def truth(self) -> Mapping[str, Truth]:
        """Analytic truth by structure name, plus "L1", "L2", ... (L1 is the largest lesion); "DIL" is all lesions.

        "Prostate" includes its lesions, and the zones do too: "Peripheral zone" is the gland less the transition zone,
        whatever lies in it. Structures without a closed form (rectum, bones, body) are not listed.
        """
        whole, inner = self.gland.whole, self.gland.transition_zone
        truth = {
            PROSTATE.name: _truth_of([whole]),
            TRANSITION_ZONE.name: _truth_of([inner]),
            PERIPHERAL_ZONE.name: _truth_of([whole], less=[inner]),
            BLADDER.name: _truth_of([self.around.bladder]),
            FEMORAL_HEAD_LEFT.name: _truth_of([self.around.femoral_head_left]),
            FEMORAL_HEAD_RIGHT.name: _truth_of([self.around.femoral_head_right]),
        }
        if self.gland.lesions:
            truth[DIL.name] = _truth_of(list(self.gland.lesions))
        for number, lesion in enumerate(self.gland.lesions, start=1):
            truth[f"L{number}"] = _truth_of([lesion])
        return MappingProxyType(truth)

    def render(
        self,
        grid: Grid | sitk.Image | None = None,
        *,
        seed: int | None = None,
        modalities: Sequence[str] = ("t2w", "ct", "cbct"),
        contrast_seed: int | None = None,
    ) -> PhantomStudy:
        """Images and label maps on `grid` (an image gives its own; default: `default_grid()`); see `render.render`."""
        from ProstateXferLib.images.phantom.render import render

        return render(self, grid, seed=seed, modalities=modalities, contrast_seed=contrast_seed)


def make_phantom(seed: int = 0, *, lesion_volumes_cm3: Sequence[float] = (0.8, 2.5)) -> Phantom:
    """The pelvis that belongs to the seed, with lesions of exactly these volumes (cm3) inside the prostate.

    The rest of the anatomy does not depend on the lesions. Raises `ProstateXferError` where a lesion does not fit.
    """
    gland = draw_gland(seed, tuple(lesion_volumes_cm3))
    return Phantom(seed, gland, draw_surroundings(seed, gland.whole))


def _truth_of(shapes: list[Ellipsoid], *, less: Sequence[Ellipsoid] = ()) -> Truth:
    """Volume and centroid of disjoint ellipsoids together, less ellipsoids that lie inside them."""
    volumes = np.array([s.volume_cm3 for s in shapes] + [-s.volume_cm3 for s in less])
    centers = np.array([s.center_lps for s in [*shapes, *less]])
    total = float(volumes.sum())
    return Truth(total, tuple(float(v) for v in volumes @ centers / total))
