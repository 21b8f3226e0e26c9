# SPDX-License-Identifier: Apache-2.0
"""Results by the volume of the lesion: small, medium, large.

Default edges are 1 and 2 cm³: small v < 1, medium 1 <= v <= 2, large v > 2. The MR-DINOv3 abstract (AAPM 2026, 2441)
calls "> 2 cm³" large, so 2 itself is medium; SAP's target lesions are "at least 1 mL" (J Bone Oncol 2026;57:100745), so
1 itself is not small. For other edges the same rule holds: an edge belongs to the stratum above it, and the last of
two or more to the stratum below it. Volumes within a millionth of an edge count as equal to it, because headers store
spacings in single precision.

The reference's volume decides, a candidate's own only where it is a false positive and there is no lesion to ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.lesion_detection import LesionDetection
from ProstateXferLib.metrics.statistics import Summary, summarize

_SAME = 1e-6


@dataclass(frozen=True)
class Stratum:
    """Volumes from `lower_cm3` to `upper_cm3`; the flags say whether the edges themselves belong to it."""

    name: str
    lower_cm3: float
    upper_cm3: float
    includes_lower: bool
    includes_upper: bool

    def __contains__(self, volume_cm3: float) -> bool:
        """Whether a volume above zero belongs to it; 0 and NaN are no lesion and belong to none."""
        if not volume_cm3 > 0:
            return False
        at_lower, at_upper = (_close(volume_cm3, edge) for edge in (self.lower_cm3, self.upper_cm3))
        if at_lower or at_upper:
            return (at_lower and self.includes_lower) or (at_upper and self.includes_upper)
        return self.lower_cm3 < volume_cm3 < self.upper_cm3

    @property
    def label(self) -> str:
        """Its range as a table's heading has it: "< 1 cm³", "1 to 2 cm³", "> 2 cm³"."""
        if self.lower_cm3 <= 0:
            return f"{'≤' if self.includes_upper else '<'} {self.upper_cm3:g} cm³"
        if math.isinf(self.upper_cm3):
            return f"{'≥' if self.includes_lower else '>'} {self.lower_cm3:g} cm³"
        if self.includes_lower and self.includes_upper:
            return f"{self.lower_cm3:g} to {self.upper_cm3:g} cm³"
        left, right = ("≤" if included else "<" for included in (self.includes_lower, self.includes_upper))
        return f"{self.lower_cm3:g} {left} v {right} {self.upper_cm3:g} cm³"


@dataclass(frozen=True)
class StratumDetection:
    """Detection of the lesions of one stratum; NaN where there is nothing to divide by.

    `precision` sets the detected lesions of this reference volume against the false positives of this own volume.
    """

    stratum: Stratum
    n_exams: int
    n_lesions: int
    n_detected: int
    n_false_positives: int

    @property
    def sensitivity(self) -> float:
        """Share of the stratum's lesions that were detected."""
        return self.n_detected / self.n_lesions if self.n_lesions else math.nan

    @property
    def precision(self) -> float:
        """Detected / (detected + false positives)."""
        claimed = self.n_detected + self.n_false_positives
        return self.n_detected / claimed if claimed else math.nan

    @property
    def false_positives_per_exam(self) -> float:
        """False positives of the stratum per exam of the whole cohort."""
        return self.n_false_positives / self.n_exams if self.n_exams else math.nan


def volume_strata(edges_cm3: Sequence[float] = (1.0, 2.0), names: Sequence[str] | None = None) -> tuple[Stratum, ...]:
    """The strata between rising edges above zero; with two edges named small, medium, large unless told otherwise."""
    edges = [float(edge) for edge in edges_cm3]
    rising = all(low < high for low, high in zip([0.0, *edges], edges, strict=False))
    if not edges or not rising or not math.isfinite(edges[-1]):
        raise ProstateXferError(f"The edges {edges} cm³ make no strata; give finite rising volumes above zero.")
    if names is None:
        given = {1: ("small", "large"), 2: ("small", "medium", "large")}
        names = given.get(len(edges), [f"stratum {k + 1}" for k in range(len(edges) + 1)])
    if len(names) != len(edges) + 1 or len(set(names)) != len(names):
        raise ProstateXferError(f"{len(edges)} edges make {len(edges) + 1} strata; give as many different names.")
    last = len(edges)
    # Whether edge k belongs to what lies above it: all but the last one of several.
    upwards = [True, *(k == 0 or k < last - 1 for k in range(last))]
    bounds = [0.0, *edges, math.inf]
    return tuple(
        Stratum(name, bounds[k], bounds[k + 1], k > 0 and upwards[k], k < last and not upwards[k + 1])
        for k, name in enumerate(names)
    )


def stratum_of(volume_cm3: float, strata: Sequence[Stratum] | None = None) -> Stratum | None:
    """The stratum of a reference volume; None for 0 and NaN, which are no lesion."""
    if volume_cm3 is None or math.isnan(volume_cm3) or volume_cm3 == 0:
        return None
    if volume_cm3 < 0:
        raise ProstateXferError(f"A volume of {volume_cm3} cm³ is impossible; volumes are counted voxels.")
    return next((stratum for stratum in strata or volume_strata() if volume_cm3 in stratum), None)


def summarize_by_stratum(
    reference_cm3: Iterable[float],
    values: Iterable[float],
    strata: Sequence[Stratum] | None = None,
    *,
    unit: str = "lesions",
) -> dict[str, Summary]:
    """A summary of the values of each stratum (Dice, centroid distance, ...), by the volumes of their references.

    Volumes and values go lesion by lesion (or case by case) in the same order. A stratum without a lesion is there
    with 0 of 0; a volume of 0 or NaN is no lesion, and its value belongs to no stratum.
    """
    strata = tuple(strata or volume_strata())
    sorted_out: dict[str, list[float]] = {stratum.name: [] for stratum in strata}
    volumes, numbers = list(reference_cm3), list(values)
    if len(volumes) != len(numbers):
        raise ProstateXferError(f"There are {len(volumes)} volumes and {len(numbers)} values; one each is needed.")
    for volume, value in zip(volumes, numbers, strict=True):
        stratum = stratum_of(volume, strata)
        if stratum is not None:
            sorted_out[stratum.name].append(value)
    return {name: summarize(found, unit=unit) for name, found in sorted_out.items()}


def detection_by_stratum(
    exams: Iterable[LesionDetection], strata: Sequence[Stratum] | None = None
) -> list[StratumDetection]:
    """Sensitivity, precision and false positives of each stratum over a cohort."""
    every = list(exams)
    lesions = [lesion for exam in every for lesion in exam.lesions]
    false = [c for exam in every for c in exam.candidates if c.verdict == "false"]
    if any(math.isnan(part.volume_cm3) for part in (*lesions, *false)):
        raise ProstateXferError("These lesions have no volume; pass images or a spacing to detect_lesions.")
    return [
        StratumDetection(
            stratum,
            len(every),
            sum(lesion.volume_cm3 in stratum for lesion in lesions),
            sum(lesion.detected for lesion in lesions if lesion.volume_cm3 in stratum),
            sum(candidate.volume_cm3 in stratum for candidate in false),
        )
        for stratum in strata or volume_strata()
    ]


def _close(volume_cm3: float, edge_cm3: float) -> bool:
    return math.isfinite(edge_cm3) and abs(volume_cm3 - edge_cm3) <= _SAME * edge_cm3
