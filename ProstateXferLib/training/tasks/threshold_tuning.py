# SPDX-License-Identifier: Apache-2.0
"""The probability from which on a trained head's structure counts as found, chosen on the stage's tuning cases.

SAP (J Bone Oncol 57 (2026) 100745; papers.md 003): the threshold with the largest mean F2 of the exams' lesions, on a
fold that is then not reported. That fold trains as well, so the probabilities on it are a little too sure.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.metrics.detection_threshold import TunedThreshold, tune_threshold
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.tasks.segmentation_scores import images_and_truth
from ProstateXferLib.training.tasks.segmentation_settings import ThresholdTuning


def tune_head_threshold(
    checkpoint: Path, cases: Sequence[Case], tuning: ThresholdTuning, *, device: str, progress: Progress
) -> TunedThreshold:
    """Choose a head's threshold and write it into the checkpoint's card; the last history entry says how it was found.

    Probabilities are those that `Segmenter` gives on the images' own grids, so that the threshold is right for users.
    Cases in which nobody looked for the structure say nothing; those in which none was found count their false alarms.

    Args:
        checkpoint: what was trained; its card is replaced, its weights stay.
        cases: tuning cases.
        tuning: which head, and what is tried.
        device: where to run.
        progress: told every case; asked whether to stop.

    Raises:
        ProstateXferError: no case has a lesion.
        CancelledError: the user stopped; the checkpoint is as it was.
    """
    card, weights = read_checkpoint(checkpoint)
    head = next(one for one in card.heads if one.name == tuning.head)
    exams = _exams(Segmenter(checkpoint, device=device), cases, _structure_of(card, head), progress)
    tuned = tune_threshold(exams, thresholds=tuning.thresholds, beta=tuning.beta)
    write_checkpoint(checkpoint, _with_threshold(card, head, tuned), weights)
    progress.update("tune", 1.0, f"threshold {tuned.threshold:g} for {head.name}: F{tuned.beta:g} {tuned.f_beta:.3f}")
    return tuned


def _exams(
    segmenter: Segmenter, cases: Sequence[Case], structure: str, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(reference (z, y, x) bool, probability (z, y, x)) of every case in which somebody looked for the structure."""
    card = segmenter.checkpoints[0].card
    for index, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update("tune", index / len(cases), f"case {case.case_id}")
        images, truth = images_and_truth(case, card)
        if structure in truth:
            yield truth[structure], sitk.GetArrayFromImage(segmenter.predict(images).probabilities[structure])


def _structure_of(card: ModelCard, head: Head) -> str:
    (value,) = head.values  # SegmentationSettings lets no other head be tuned
    return next(structure.name for structure in card.structures if structure.value == value)


def _with_threshold(card: ModelCard, head: Head, tuned: TunedThreshold) -> ModelCard:
    heads = tuple(dataclasses.replace(one, threshold=tuned.threshold) if one is head else one for one in card.heads)
    *earlier, last = card.history
    record = {"head": head.name, "threshold": tuned.threshold, "f_beta": round(tuned.f_beta, 4), "beta": tuned.beta}
    return dataclasses.replace(card, heads=heads, history=(*earlier, {**last, "tuned": record}))
