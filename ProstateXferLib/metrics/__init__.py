# SPDX-License-Identifier: Apache-2.0
"""Numbers about masks and images: overlap, shape, components, HU errors, and the table row of each structure.

Imported at once and not lazily: `measure` is a function and the module it lives in, and only an import that is
finished makes sure that `from ProstateXferLib.metrics import measure` is the function whatever was imported before.
It costs numpy and SimpleITK; scipy comes in where it is used.
"""

from ProstateXferLib.metrics import sct
from ProstateXferLib.metrics.agreement import BlandAltman, Icc, RootMeanSquareError, bland_altman, icc_a1, volume_rmse
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.detection_summary import DetectionSummary, summarize_detection
from ProstateXferLib.metrics.froc import FrocCurve, froc_curve, froc_of_maps
from ProstateXferLib.metrics.gamma import GammaResult, gamma_index
from ProstateXferLib.metrics.lesion_detection import Candidate, Lesion, LesionDetection
from ProstateXferLib.metrics.lesion_strata import (
    Stratum,
    StratumDetection,
    detection_by_stratum,
    stratum_of,
    summarize_by_stratum,
    volume_strata,
)
from ProstateXferLib.metrics.lesions import detect_lesions
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.missed_lesions import MissedLesion, missed_lesions
from ProstateXferLib.metrics.overlap import (
    OverlapCounts,
    dice,
    f_beta,
    iou,
    overlap_counts,
    precision,
    recall,
    slice_counts,
)
from ProstateXferLib.metrics.overlap_average import average_overlap
from ProstateXferLib.metrics.paired_tests import (
    Comparison,
    adjust_p_values,
    compare_paired,
    mann_whitney,
    paired_wilcoxon,
)
from ProstateXferLib.metrics.picai import PicaiScore, picai_score
from ProstateXferLib.metrics.picai_candidates import detection_map
from ProstateXferLib.metrics.sct_dice import SctDice, sct_dice
from ProstateXferLib.metrics.shape import (
    bounds_lps,
    centroid_distance_mm,
    centroid_lps,
    extent_mm,
    max_diameter_mm,
    volume_cm3,
)
from ProstateXferLib.metrics.statistics import Summary, bootstrap_interval, summarize
from ProstateXferLib.metrics.surface import SurfaceMetrics, surface_metrics
from ProstateXferLib.metrics.synthesis import mae_hu, me_hu
from ProstateXferLib.metrics.target_dose import target_dose_mae
from ProstateXferLib.metrics.volume import VolumeComparison, compare_volumes
from ProstateXferLib.metrics.water_equivalent_depth import (
    DepthDifference,
    compare_water_equivalent_depth,
    water_equivalent_depth_mm,
)

__all__ = [
    "BlandAltman",
    "Candidate",
    "Comparison",
    "DepthDifference",
    "DetectionSummary",
    "FrocCurve",
    "GammaResult",
    "Icc",
    "Lesion",
    "LesionDetection",
    "Measurement",
    "MissedLesion",
    "OverlapCounts",
    "PicaiScore",
    "RootMeanSquareError",
    "SctDice",
    "Stratum",
    "StratumDetection",
    "Summary",
    "SurfaceMetrics",
    "VolumeComparison",
    "adjust_p_values",
    "average_overlap",
    "bland_altman",
    "bootstrap_interval",
    "bounds_lps",
    "centroid_distance_mm",
    "centroid_lps",
    "compare_paired",
    "compare_volumes",
    "compare_water_equivalent_depth",
    "components_by_volume",
    "detect_lesions",
    "detection_by_stratum",
    "detection_map",
    "dice",
    "extent_mm",
    "f_beta",
    "froc_curve",
    "froc_of_maps",
    "gamma_index",
    "icc_a1",
    "iou",
    "mae_hu",
    "mann_whitney",
    "max_diameter_mm",
    "me_hu",
    "measure",
    "missed_lesions",
    "overlap_counts",
    "paired_wilcoxon",
    "picai_score",
    "precision",
    "recall",
    "sct",
    "sct_dice",
    "slice_counts",
    "stratum_of",
    "summarize",
    "summarize_by_stratum",
    "summarize_detection",
    "surface_metrics",
    "target_dose_mae",
    "volume_cm3",
    "volume_rmse",
    "volume_strata",
    "water_equivalent_depth_mm",
]
