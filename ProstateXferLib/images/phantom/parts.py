# SPDX-License-Identifier: Apache-2.0
"""What a phantom is painted from: a shape, the tissues at its depths, and the label it leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

import numpy as np

from ProstateXferLib.images.phantom.shapes import Shape, mirrored


class Tissue(Enum):
    """Materials with their own look in each modality; `mr.py` and `ct.py` hold the values."""

    AIR = auto()
    SKIN = auto()
    FAT = auto()
    FASCIA = auto()
    MUSCLE = auto()
    CORTEX = auto()
    MARROW_FATTY = auto()
    MARROW_RED = auto()
    CARTILAGE = auto()
    DISC = auto()
    ARTERY = auto()
    VEIN = auto()
    PLEXUS = auto()
    BLADDER_WALL = auto()
    URINE = auto()
    BOWEL_WALL = auto()
    STOOL = auto()
    GAS = auto()
    SEMINAL_VESICLE = auto()
    CAPSULE = auto()
    PERIPHERAL_ZONE = auto()
    TRANSITION_ZONE = auto()
    STROMA = auto()
    NODULE_BRIGHT = auto()
    NODULE_DARK = auto()
    URETHRA = auto()
    LESION = auto()


@dataclass(frozen=True)
class Part:
    """One step of the painting; later parts cover earlier ones.

    `layers` are (depth below the surface in mm, tissue), outermost first. `label` goes into the anatomy map where the
    distance is <= 0; None leaves the map as it is. `wobble_mm` roughens the surface with a random field (never used
    for a structure with analytic truth). `clip` limits the part to the inside of another shape. `blur_mm` softens the
    edge beyond what the voxel size does.
    """

    shape: Shape
    layers: tuple[tuple[float, Tissue], ...]
    label: int | None = None
    wobble_mm: float = 0.0
    clip: Shape | None = None
    blur_mm: float = 0.0

    @property
    def bounds_lps(self) -> np.ndarray:
        """(2, 3) box around everything the part can touch, soft edge included, LPS mm."""
        low, high = self.shape.bounds_lps
        if self.clip is not None:
            low, high = np.maximum(low, self.clip.bounds_lps[0]), np.minimum(high, self.clip.bounds_lps[1])
        margin = 2.5 * self.wobble_mm + self.blur_mm + 1.5
        return np.stack([low - margin, high + margin])


def both_sides(parts: list[Part]) -> list[Part]:
    """Each part followed by its mirror image across the midline x = 0."""
    return [side for part in parts for side in (part, replace(part, shape=mirrored(part.shape)))]
