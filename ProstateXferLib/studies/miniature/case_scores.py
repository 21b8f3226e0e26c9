# SPDX-License-Identifier: Apache-2.0
"""What each arm scored on each case: one row a case, kept as CSV beside the models that made it."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text
from ProstateXferLib.metrics.overlap import dice
from ProstateXferLib.metrics.shape import centroid_distance_mm, volume_cm3
from ProstateXferLib.metrics.surface import surface_metrics


@dataclass(frozen=True)
class CaseScore:
    """The whole gland of one case, as one arm's model of one fold found it.

    Attributes:
        arm: initialisation arm.
        fold: the fold that this case was not trained on; -1 for a mean over the folds' models.
        data: data set, as the tables name it.
        case_id: of the data set.
        dice: overlap on the case's own grid.
        centroid_distance_mm, hd95_mm: NaN where one side is empty, or where the data set's millimetres are nominal.
        volume_error_cm3: found minus drawn; NaN where the millimetres are nominal.
    """

    arm: str
    fold: int
    data: str
    case_id: str
    dice: float
    centroid_distance_mm: float
    hd95_mm: float
    volume_error_cm3: float


def score_gland(
    reference: sitk.Image, found: np.ndarray, *, arm: str, fold: int, data: str, case_id: str, true_mm: bool
) -> CaseScore:
    """Compare a whole-gland mask (z, y, x) bool with the reference image on the same grid; `true_mm` says whether the
    image's spacing is what the scanner used (PROMISE12's copies have nominal spacing)."""
    truth = sitk.GetArrayFromImage(reference) > 0
    predicted = sitk.GetImageFromArray(found.astype(np.uint8))
    predicted.CopyInformation(reference)
    spacing_zyx = reference.GetSpacing()[::-1]
    measured = true_mm and truth.any() and found.any()
    surface = surface_metrics(truth, found, spacing_zyx) if measured else None
    return CaseScore(
        arm=arm,
        fold=fold,
        data=data,
        case_id=case_id,
        dice=dice(truth, found),
        centroid_distance_mm=centroid_distance_mm(reference, predicted) if measured else math.nan,
        hd95_mm=surface.hd95 if surface else math.nan,
        volume_error_cm3=volume_cm3(found, spacing_zyx) - volume_cm3(truth, spacing_zyx) if true_mm else math.nan,
    )


def write_scores(path: Path, scores: Iterable[CaseScore]) -> Path:
    """One line a case, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(CaseScore)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(score) for score in scores)
    return write_text(path, text.getvalue())


def read_scores(path: Path) -> list[CaseScore]:
    """The inverse of `write_scores`.

    Raises:
        ProstateXferError: not such a file.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            return [
                CaseScore(**{f.name: f.type(row[f.name]) for f in fields(CaseScore)}) for row in csv.DictReader(stream)
            ]
    except (OSError, KeyError, ValueError) as error:
        raise ProstateXferError(f"'{path}' is no table of case scores ({error}): remove it and run again.") from error


def values_of(scores: Sequence[CaseScore], arm: str, data: str, metric: str) -> dict[str, float]:
    """case_id -> value of one metric, sorted by case."""
    chosen = {score.case_id: getattr(score, metric) for score in scores if (score.arm, score.data) == (arm, data)}
    return dict(sorted(chosen.items()))
