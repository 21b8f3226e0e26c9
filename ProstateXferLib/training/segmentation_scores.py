# SPDX-License-Identifier: Apache-2.0
"""What a trained segmentation model scores on cases it never saw, through the same `Segmenter` that users run."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import Score
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.overlap import dice
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.training.cases import Case

_LOGGER = logging.getLogger(__name__)
PHANTOM_SEEDS = (900001, 900002, 900003)
"""Phantoms that no recipe trains on."""


def add_scores(destination: Path, case_sets: dict[str, Sequence[Case]], *, device: str) -> Path:
    """Score the checkpoint on sets of labelled cases and on phantoms, and write the scores into its card."""
    segmenter, scores = Segmenter(destination, device=device), []
    for name, cases in case_sets.items():
        values = {case.name: gland_dice(segmenter, case) for case in cases}
        _LOGGER.info("%s: %s", name, {key: round(value, 3) for key, value in values.items()})
        scores.append(_mean("mean whole-gland Dice", list(values.values()), name))
    glands, lesions = zip(*(phantom_dice(segmenter, seed) for seed in PHANTOM_SEEDS), strict=True)
    scores.append(_mean("mean whole-gland Dice", glands, "unseen phantoms"))
    scores.append(_mean("mean DIL Dice (phantom lesions, not patients)", lesions, "unseen phantoms"))
    card, state = read_checkpoint(destination)
    return write_checkpoint(destination, dataclasses.replace(card, scores=tuple(scores)), state)


def gland_dice(segmenter: Segmenter, case: Case) -> float:
    """Dice of the whole gland (touching lesions included) on the case's own grid."""
    predicted = _whole_gland(sitk.GetArrayFromImage(segmenter.predict(read_image(case.image)).labels))
    return dice(sitk.GetArrayFromImage(read_image(case.gland)) > 0, predicted)


def phantom_dice(segmenter: Segmenter, seed: int) -> tuple[float, float]:
    """Dice of the whole gland and of all lesions together on the phantom of that seed."""
    study = make_phantom(seed).render(modalities=("t2w",))
    truth = sitk.GetArrayFromImage(study.labels)
    predicted = sitk.GetArrayFromImage(segmenter.predict(study.t2w).labels)
    gland = dice(_whole_gland(truth), _whole_gland(predicted))
    return gland, dice(truth == DIL.value, predicted == DIL.value)


def _whole_gland(labels_zyx: np.ndarray) -> np.ndarray:
    return whole_structure_mask(labels_zyx, PROSTATE, (PROSTATE, DIL))


def _mean(metric: str, values: Sequence[float], data: str) -> Score:
    return Score(metric, round(float(np.mean(values)), 4), data, len(values))
