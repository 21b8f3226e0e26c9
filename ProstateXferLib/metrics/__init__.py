# SPDX-License-Identifier: Apache-2.0
"""Numbers about masks and images: overlap, shape, components, HU errors, and the table row of each structure.

Imported at once and not lazily: `measure` is a function and the module it lives in, and only an import that is
finished makes sure that `from ProstateXferLib.metrics import measure` is the function whatever was imported before.
It costs numpy and SimpleITK; scipy comes in where it is used.
"""

from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.overlap import dice, iou, precision, recall
from ProstateXferLib.metrics.shape import (
    bounds_lps,
    centroid_distance_mm,
    centroid_lps,
    extent_mm,
    max_diameter_mm,
    volume_cm3,
)
from ProstateXferLib.metrics.synthesis import mae_hu, me_hu

__all__ = [
    "Measurement",
    "bounds_lps",
    "centroid_distance_mm",
    "centroid_lps",
    "components_by_volume",
    "dice",
    "extent_mm",
    "iou",
    "mae_hu",
    "max_diameter_mm",
    "me_hu",
    "measure",
    "precision",
    "recall",
    "volume_cm3",
]
