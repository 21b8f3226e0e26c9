# SPDX-License-Identifier: Apache-2.0
"""What detection found in one exam, lesion by lesion and candidate by candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ProstateXferLib.errors import ProstateXferError

Verdict = Literal["true", "false", "ignored"]


@dataclass(frozen=True)
class Lesion:
    """One component of the reference and what became of it.

    Attributes:
        number: 1 is the largest of the exam, the index lesion.
        voxel_count: its size in voxels.
        volume_cm3: its volume; NaN where no spacing is known.
        candidates: numbers of the candidates that detect it; none when it was missed.
        confidence: the largest of theirs, 0 when missed.
        dice, iou: of the lesion with all of these candidates together, 0 when missed.
        centroid_distance_mm: to the candidate with which it shares most voxels, else to the nearest one, however far;
            NaN where the exam has no candidate or no spacing is known.
    """

    number: int
    voxel_count: int
    volume_cm3: float
    candidates: tuple[int, ...]
    confidence: float
    dice: float
    iou: float
    centroid_distance_mm: float

    @property
    def detected(self) -> bool:
        """Whether a candidate stands for it."""
        return bool(self.candidates)


@dataclass(frozen=True)
class Candidate:
    """One component of the prediction: number (1 is the largest), size, confidence and whether it was right.

    "ignored" is PI-CAI's third way: enough overlap with a lesion that another candidate stands for.
    """

    number: int
    voxel_count: int
    volume_cm3: float
    confidence: float
    verdict: Verdict


@dataclass(frozen=True)
class LesionDetection:
    """All lesions and candidates of one exam, each from the largest, under one rule; `overlap` is "IoU" or "DSC"."""

    rule: str
    lesions: tuple[Lesion, ...]
    candidates: tuple[Candidate, ...]
    overlap: str = "IoU"

    @property
    def true_positives(self) -> int:
        """Lesions that were detected; two candidates on one lesion count once."""
        return sum(lesion.detected for lesion in self.lesions)

    @property
    def false_negatives(self) -> int:
        """Lesions that were missed."""
        return len(self.lesions) - self.true_positives

    @property
    def false_positives(self) -> int:
        """Candidates that stand for no lesion and are not ignored."""
        return sum(candidate.verdict == "false" for candidate in self.candidates)

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that were detected; NaN without a lesion."""
        return self.true_positives / len(self.lesions) if self.lesions else math.nan

    @property
    def precision(self) -> float:
        """Detected lesions / (detected lesions + false positives); NaN when there are neither."""
        claimed = self.true_positives + self.false_positives
        return self.true_positives / claimed if claimed else math.nan

    def f_beta(self, beta: float = 2.0) -> float:
        """F-beta of the counts, (1 + b²) TP / ((1 + b²) TP + b² FN + FP); F2 is SAP's score of a patient.

        NaN for an exam with neither lesion nor false positive; 0 when nothing was detected.
        """
        weighted = (1 + beta**2) * self.true_positives
        total = weighted + beta**2 * self.false_negatives + self.false_positives
        return weighted / total if total else math.nan

    @property
    def case_confidence(self) -> float:
        """The largest confidence of any candidate, PI-CAI's score of a case; 0 without one."""
        return max((candidate.confidence for candidate in self.candidates), default=0.0)

    @property
    def results(self) -> list[tuple[int, float, float]]:
        """(is lesion, confidence, overlap) of every lesion, then of every false positive, as picai_eval lists them."""
        lesions = [(1, each.confidence, each.dice if self.overlap == "DSC" else each.iou) for each in self.lesions]
        return lesions + [(0, c.confidence, 0.0) for c in self.candidates if c.verdict == "false"]

    def above(self, min_volume_cm3: float) -> LesionDetection:
        """Only the lesions of at least this volume and the candidates that are true, ignored or as large.

        SAP's "target lesions" are those of at least 1 mL: a lesion counts by its volume in the reference, a false
        positive by its own. What detects a large lesion may itself be small.
        """
        if any(math.isnan(part.volume_cm3) for part in (*self.lesions, *self.candidates)):
            raise ProstateXferError("These lesions have no volume; pass images or a spacing to detect_lesions.")
        # A header stores spacings as float32: 1 mL of voxels may come out as 0.99999998.
        least = min_volume_cm3 * (1 - 1e-6)
        return replace(
            self,
            lesions=tuple(lesion for lesion in self.lesions if lesion.volume_cm3 >= least),
            candidates=tuple(c for c in self.candidates if c.verdict != "false" or c.volume_cm3 >= least),
        )
