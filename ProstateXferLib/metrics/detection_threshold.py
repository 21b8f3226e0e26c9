# SPDX-License-Identifier: Apache-2.0
"""The probability from which on something counts as found, chosen on exams that are then not reported."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.lesions import detect_lesions

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""0.05 to 0.95. SAP does not publish the thresholds that it tried."""


@dataclass(frozen=True)
class TunedThreshold:
    """The chosen threshold, the mean F-beta of the exams at it, and that of every threshold that was tried."""

    threshold: float
    f_beta: float
    beta: float
    tried: tuple[tuple[float, float], ...]


def tune_threshold(
    exams: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    beta: float = 2.0,
    connectivity: int = 26,
) -> TunedThreshold:
    """The threshold with the largest mean F-beta over exams (SAP, J Bone Oncol 2026;57:100745, evaluation section).

    An exam's F-beta is that of its lesions under the any-overlap rule; exams with neither a lesion nor a finding say
    nothing and are left out at that threshold. Of equally good thresholds the middle one is taken: it is the farthest
    from where the score falls.

    Args:
        exams: (reference mask (z, y, x), probability (z, y, x)) one after another; read once.
        thresholds: probabilities to try; a voxel counts where its probability is at least that.
        beta: weight of sensitivity over precision.
        connectivity: 6 or 26, of the predicted components.

    Raises:
        ProstateXferError: no exam, no exam with a lesion, or a threshold outside (0, 1).
    """
    tried = tuple(sorted(set(thresholds)))
    if not tried or not all(0 < threshold < 1 for threshold in tried):
        raise ProstateXferError(f"Thresholds to try must lie between 0 and 1; they are {tried}.")
    scores: list[list[float]] = []
    lesions = 0
    for reference, probability in exams:
        lesions += int(np.any(reference))
        found = [detect_lesions(reference, probability >= t, connectivity=connectivity) for t in tried]
        scores.append([exam.f_beta(beta) for exam in found])
    if not lesions:
        raise ProstateXferError("A threshold cannot be tuned on exams without a lesion: give the tuning split some.")
    columns = [[value for value in column if not math.isnan(value)] for column in zip(*scores, strict=True)]
    means = [float(np.mean(column)) if column else 0.0 for column in columns]
    best = max(means)
    equal = [index for index, mean in enumerate(means) if math.isclose(mean, best, rel_tol=1e-12)]
    chosen = equal[(len(equal) - 1) // 2]
    return TunedThreshold(tried[chosen], best, beta, tuple(zip(tried, means, strict=True)))
