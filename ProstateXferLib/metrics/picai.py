# SPDX-License-Identifier: Apache-2.0
"""The numbers of the PI-CAI challenge, by the challenge's own package `picai_eval` (an optional extra)."""

import contextlib
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.froc import FrocCurve, froc_curve
from ProstateXferLib.metrics.lesion_detection import LesionDetection
from ProstateXferLib.metrics.lesions import detect_lesions
from ProstateXferLib.metrics.masks import Mask, foreground, mask_pair
from ProstateXferLib.metrics.optional_package import optional_package


@dataclass(frozen=True, kw_only=True)
class PicaiScore:
    """The challenge's figures for a cohort; NaN where they do not exist.

    Attributes:
        auroc: area under the ROC curve over exams, by the largest confidence of each; NaN unless the cohort has
            exams with and without a lesion.
        average_precision: area (in steps) under precision against recall over lesions; NaN without a lesion.
        score: the mean of these two, by which the challenge ranks.
        precision, recall: the curve of the average precision, from recall 1 down to 0.
        froc: sensitivity against false positives per exam.
        n_exams, n_positive, n_lesions: size of the cohort.
        version: of picai_eval.
    """

    auroc: float
    average_precision: float
    score: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    froc: FrocCurve
    n_exams: int
    n_positive: int
    n_lesions: int
    version: str

    def __str__(self) -> str:
        """The figures in one line with what they were made of."""
        return (
            f"PI-CAI score {self.score:.4g}, AUROC {self.auroc:.4g}, AP {self.average_precision:.4g} "
            f"({self.n_exams} exams, {self.n_positive} with a lesion, {self.n_lesions} lesions)"
        )


def picai_score(
    pairs: Iterable[tuple[Mask, Mask]],
    *,
    min_overlap: float = 0.10,
    overlap: Literal["IoU", "DSC"] = "IoU",
    case_confidence: Literal["max", "bayesian"] = "max",
    ignore_unmatched_overlapping: bool = True,
) -> PicaiScore:
    """AUROC, AP and score of (reference mask, detection map) pairs, arrays (z, y, x) or images on one grid.

    `pairs` may be a generator: one exam is in memory at a time. A detection map has one confidence per 26-connected
    component and 0 elsewhere; `detection_map` makes one of probabilities. "bayesian" takes the exam's confidence as
    1 - product of (1 - confidence) over its candidates.

    The exams are judged by `detect_lesions` with the rule "picai", whose verdicts are the package's: its own loop looks
    through the image once for every component, minutes for a map with thousands. The figures are the package's. It
    fails on a cohort without lesions and candidates and gives -0 for its AP with candidates alone; both are NaN here.

    Raises:
        ProstateXferError: the package is missing, or a map has negative values or several confidences in a component.
    """
    package = picai_eval()
    results: dict[int, list[tuple[int, float, float]]] = {}
    confidences: dict[int, float] = {}
    for number, (reference, prediction) in enumerate(pairs):
        truth, _ = mask_pair(reference, prediction)
        try:
            exam = detect_lesions(
                truth,
                _numbers(prediction),
                "picai",
                min_overlap=min_overlap,
                overlap=overlap,
                ignore_unmatched_overlapping=ignore_unmatched_overlapping,
            )
        except ProstateXferError as error:
            raise ProstateXferError(f"Exam number {number + 1} cannot be judged: {error}") from error
        results[number] = exam.results
        confidences[number] = _case_confidence(exam, case_confidence)
    return _score(package, results, confidences)


def _case_confidence(exam: LesionDetection, rule: str) -> float:
    """One confidence for the exam from those of its candidates; 0 without one."""
    if rule == "max":
        return exam.case_confidence
    if rule == "bayesian":
        return 1 - math.prod(1 - candidate.confidence for candidate in exam.candidates)
    raise ProstateXferError(f"The rule '{rule}' for an exam's confidence is unknown; use 'max' or 'bayesian'.")


def picai_eval() -> ModuleType:
    """The package, imported without the lines that it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return optional_package("picai_eval", "evaluate", "PI-CAI's scores")


def _score(
    package: ModuleType, results: dict[int, list[tuple[int, float, float]]], confidences: dict[int, float]
) -> PicaiScore:
    """The challenge's figures of all exams' results."""
    targets = {number: int(any(lesion for lesion, *_ in found)) for number, found in results.items()}
    positive, lesions = sum(targets.values()), sum(int(lesion) for found in results.values() for lesion, *_ in found)
    metrics = package.Metrics(lesion_results=results, case_target=targets, case_pred=confidences)
    auroc = float(metrics.auroc) if 0 < positive < len(targets) else math.nan
    precision = recall = ()
    average_precision = math.nan
    if lesions:
        curve = metrics.calculate_precision_recall()
        average_precision = float(curve["AP"])
        precision, recall = (tuple(np.asarray(curve[name], float).tolist()) for name in ("precision", "recall"))
    return PicaiScore(
        auroc=auroc,
        average_precision=average_precision,
        score=(auroc + average_precision) / 2,
        precision=precision,
        recall=recall,
        froc=froc_curve(results.values()),
        n_exams=len(results),
        n_positive=positive,
        n_lesions=lesions,
        version=_version(),
    )


def _version() -> str:
    from importlib.metadata import version

    return version("picai_eval")


def _numbers(prediction: Mask) -> np.ndarray:
    """The detection map as float32 (z, y, x)."""
    foreground(prediction, "detection map")
    array = sitk.GetArrayFromImage(prediction) if isinstance(prediction, sitk.Image) else np.asarray(prediction)
    return array.astype(np.float32)
