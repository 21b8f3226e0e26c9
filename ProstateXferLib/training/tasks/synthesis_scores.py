# SPDX-License-Identifier: Apache-2.0
"""Scores of a finished synthesis model on cases it never saw, through the pipeline that users run."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ProstateXferLib.checkpoints.card import Score
from ProstateXferLib.metrics.sct import DGCF_RANGE, SctScores, sct_scores
from ProstateXferLib.pipelines.synthesizer import Synthesizer
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.pair_images import needs_simulation, pair_images
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED

_LOGGER = logging.getLogger(__name__)
TEST_NOISE = 900001
"""Draw of a simulated CBCT's noise; training draws from 0 upwards."""
METRICS = (
    ("mean absolute error in the body, HU", "mae_hu", 1),
    ("PSNR in the body (-1024 to 2000 HU), dB", "psnr_db", 2),
    ("MS-SSIM in the body (-1024 to 2000 HU)", "ms_ssim", 4),
)
"""Name on the card, field of `SctScores`, digits."""


def synthesis_scores(
    checkpoint: Path, cases: Sequence[Case], sequence: str, *, device: str, progress: Progress
) -> list[Score]:
    """MAE, PSNR and MS-SSIM in the body, means over the cases of each kind: phantoms, simulated, measured.

    A metric that does not exist for a case (MS-SSIM of very few slices) is left out of its mean, and where it exists
    for none it is not told.

    Args:
        checkpoint: what was trained.
        cases: test cases.
        sequence: name of the source among the cases' images.
        device: where to run.
        progress: told every case; asked whether to stop.
    """
    synthesizer, found = Synthesizer(checkpoint, device=device), {}
    for index, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update("score", index / len(cases), f"case {case.case_id}")
        images = pair_images(case, sequence, noise_seed=TEST_NOISE)
        scores = sct_scores(images.ct, synthesizer.predict(images.source), images.body, DGCF_RANGE)
        _LOGGER.info("%s: MAE in the body %.1f HU", case.case_id, scores.mae_hu)
        found.setdefault(_kind(case, sequence), []).append(scores)
    return [score for kind, scores in found.items() for score in _means(kind, scores)]


def _kind(case: Case, sequence: str) -> str:
    if PHANTOM_SEED in case.attributes:
        return "unseen phantoms"
    return "CBCT simulated from unseen real CT" if needs_simulation(case, sequence) else "test cases"


def _means(kind: str, scores: Sequence[SctScores]) -> list[Score]:
    told = []
    for name, field, digits in METRICS:
        values = [value for value in (getattr(one, field) for one in scores) if math.isfinite(value)]
        if values:
            told.append(Score(name, round(float(np.mean(values)), digits), kind, len(values)))
    return told
