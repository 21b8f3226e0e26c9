# SPDX-License-Identifier: Apache-2.0
"""What one case gave: values for the table, and what the cohort's curves and histograms are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ProstateXferLib.metrics.lesion_detection import LesionDetection

WHOLE = 0


@dataclass(frozen=True)
class Value:
    """One number: of a structure, or of its reference lesion number `component` (0 is the whole structure).

    `reason` says why a value is NaN, and is empty for every other.
    """

    structure: str
    component: int
    metric: str
    value: float
    reason: str = ""


@dataclass(frozen=True)
class LesionExam:
    """The lesions of one case: under both rules, and what a map of confidences says of them.

    Attributes:
        any_overlap, picai: of the label map, whose findings all have confidence 1.
        confident: of a detection map (one confidence per component), None where there was none.
        detected, false: of a map of confidences cut at each threshold: lesions found and false positives; empty
            without one.
    """

    any_overlap: LesionDetection
    picai: LesionDetection
    confident: LesionDetection | None = None
    detected: tuple[int, ...] = ()
    false: tuple[int, ...] = ()


@dataclass(frozen=True)
class MethodResult:
    """One method on one case; `failure` is the sentence of what went wrong, and nothing else is filled then.

    `declared` names what the prediction speaks of, voxels or not; `histogram` counts HU (see `synthesis_scores`).
    """

    values: tuple[Value, ...] = ()
    declared: frozenset[str] = frozenset()
    exams: Mapping[str, LesionExam] = field(default_factory=dict)
    histogram: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class CaseResult:
    """All methods on one case, by name; `declared` names what its reference speaks of."""

    case: str
    methods: Mapping[str, MethodResult]
    declared: frozenset[str] = frozenset()
    reference_histogram: tuple[int, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, str]:
        """The sentence of every method that failed on the case."""
        return {name: result.failure for name, result in self.methods.items() if result.failure}
