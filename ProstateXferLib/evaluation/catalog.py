# SPDX-License-Identifier: Apache-2.0
"""What each metric of an evaluation is called, its unit, which way is better, and its definition in one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ProstateXferLib.errors import ProstateXferError

Better = Literal["higher", "lower", "zero", "neither"]


@dataclass(frozen=True)
class Metric:
    """One column of numbers.

    `better` says which end is good ("zero": near zero from both sides). `tested` metrics are compared between two
    methods; one of each kind is, since every test more costs power in the correction. `per_lesion` metrics have one
    value a lesion, all others one a case.
    """

    key: str
    title: str
    unit: str
    better: Better
    decimals: int
    definition: str
    tested: bool = False
    per_lesion: bool = False

    @property
    def axis_label(self) -> str:
        """Title and unit as an axis of a figure has them; what has no unit is a share of 1."""
        return f"{self.title} ({self.unit or '0 to 1'})"

    def badness(self, value: float) -> float:
        """A number that grows as the value gets worse; NaN stays NaN."""
        if math.isnan(value):
            return value
        return {"higher": -value, "lower": value, "zero": abs(value), "neither": 0.0}[self.better]


def metric_of(key: str) -> Metric:
    """The metric of a key of metrics.csv; `nsd_1.5mm` is the NSD at that tolerance."""
    if key in _METRICS:
        return _METRICS[key]
    if key.startswith("nsd_") and key.endswith("mm"):
        tolerance = key.removeprefix("nsd_").removesuffix("mm")
        base = _METRICS["nsd"]
        return replace(base, key=key, title=f"NSD at {tolerance} mm", definition=base.definition.format(tolerance))
    if key.startswith("water_depth_"):
        beam = key.removeprefix("water_depth_")
        base = _METRICS["water_depth"]
        return replace(base, key=key, title=f"{base.title}, {beam}", definition=base.definition.format(beam))
    raise ProstateXferError(f"There is no metric '{key}'; this table was written by another version.")


def nsd_key(tolerance_mm: float) -> str:
    """The key of the NSD at a tolerance."""
    return f"nsd_{tolerance_mm:g}mm"


def water_depth_key(beam: str) -> str:
    """The key of the difference of water-equivalent depth under a beam."""
    return f"water_depth_{beam}"


_METRICS = {
    metric.key: metric
    for metric in (
        Metric("dice", "Dice", "", "higher", 3, "2 |R and P| / (|R| + |P|) in voxels", tested=True),
        Metric("iou", "IoU", "", "higher", 3, "|R and P| / |R or P| in voxels"),
        Metric("precision", "Precision", "", "higher", 3, "share of the predicted voxels that the reference has"),
        Metric("recall", "Recall", "", "higher", 3, "share of the reference's voxels that were predicted"),
        Metric("hd", "HD", "mm", "lower", 2, "largest distance from either surface to the other"),
        Metric(
            "hd95", "HD95", "mm", "lower", 2, "larger of the two directed 95th percentiles of distance", tested=True
        ),
        Metric("assd", "ASSD", "mm", "lower", 2, "mean distance over the elements of both surfaces", tested=True),
        Metric("masd", "MASD", "mm", "lower", 2, "mean of the two directed mean distances"),
        Metric("nsd", "NSD", "", "higher", 3, "share of both surfaces within {} mm of the other", tested=True),
        Metric("volume_reference", "Reference volume", "cm³", "neither", 2, "voxels of the reference times their size"),
        Metric("volume_prediction", "Predicted volume", "cm³", "neither", 2, "voxels predicted times their size"),
        Metric("volume_difference", "Volume difference", "cm³", "zero", 2, "prediction minus reference"),
        Metric(
            "volume_difference_relative", "Relative volume difference", "%", "zero", 1, "as per cent of the reference"
        ),
        Metric(
            "volume_error",
            "Absolute volume difference",
            "cm³",
            "lower",
            2,
            "size of the volume difference, whichever its sign",
            tested=True,
        ),
        Metric("centroid_distance", "Centroid distance", "mm", "lower", 2, "between the two centroids", tested=True),
        Metric(
            "index_lesion_distance",
            "Index lesion's centroid distance",
            "mm",
            "lower",
            2,
            "from the largest reference lesion to the predicted one that shares most voxels, else the nearest",
        ),
        Metric("lesions_reference", "Reference lesions", "", "neither", 0, "26-connected components of the reference"),
        Metric("lesions_detected", "Detected lesions", "", "neither", 0, "reference lesions with a predicted voxel"),
        Metric("false_positives", "False positives", "", "lower", 0, "predicted components that touch no lesion"),
        Metric("lesion_sensitivity", "Lesion sensitivity", "", "higher", 3, "detected / reference lesions of an exam"),
        Metric("lesion_precision", "Lesion precision", "", "higher", 3, "detected / (detected + false positives)"),
        Metric("f2", "F2", "", "higher", 3, "5 TP / (5 TP + 4 FN + FP) of an exam's lesions", tested=True),
        Metric("lesion_volume", "Lesion volume", "cm³", "neither", 2, "of a reference lesion", per_lesion=True),
        Metric("lesion_detected", "Detected", "", "higher", 0, "1 if the lesion was detected, else 0", per_lesion=True),
        Metric(
            "lesion_dice",
            "Dice of the lesion",
            "",
            "higher",
            3,
            "of a reference lesion with all predicted components that touch it, 0 if missed",
            per_lesion=True,
        ),
        Metric(
            "lesion_centroid_distance",
            "Centroid distance of the lesion",
            "mm",
            "lower",
            2,
            "from a reference lesion to the predicted component that shares most voxels, else to the nearest",
            per_lesion=True,
        ),
        Metric("mae", "MAE", "HU", "lower", 1, "mean absolute HU error, not clipped", tested=True),
        Metric("me", "ME", "HU", "zero", 1, "mean of synthetic minus true HU, not clipped"),
        Metric("psnr", "PSNR", "dB", "higher", 2, "10 log10(range² / mean squared error), clipped", tested=True),
        Metric("ssim", "SSIM", "", "higher", 4, "3-D, uniform window of 7 voxels, as SynthRAD2023", tested=True),
        Metric("ms_ssim", "MS-SSIM", "", "higher", 4, "five levels, as SynthRAD2025", tested=True),
        Metric("organ_dice", "Dice on organs", "", "higher", 3, "of one model's labels on both CTs", tested=True),
        Metric(
            "water_depth",
            "Water-equivalent depth error",
            "mm",
            "lower",
            2,
            "mean absolute difference over the target, beam from {}",
        ),
    )
}
