# SPDX-License-Identifier: Apache-2.0
"""Dice of whole validation cases while a stage is trained: prepared volumes in, the card's rules, no files."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.overlap import dice, slice_counts
from ProstateXferLib.pipelines.postprocessing import compose_labels, smoothed
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.prepared import PreparedCase

Logits = Callable[[PreparedCase], dict[str, Tensor]]
"""Case -> logits (z, K, y, x) of each head, on the prepared grid."""


@dataclass(frozen=True)
class CaseOverlap:
    """Overlap of one structure in one case.

    Attributes:
        structure: its name.
        dice: of the whole case, on the prepared grid.
        slices: (Dice, IoU) of every slice that counts; empty where slices are not measured.
    """

    structure: str
    dice: float
    slices: tuple[tuple[float, float], ...]


def validation_values(
    cases: Sequence[PreparedCase],
    logits_of: Logits,
    card: ModelCard,
    *,
    slices_above_pixels: int | None,
    progress: Progress,
) -> dict[str, float]:
    """Means over the cases, by metric name.

    "dice" is the mean over structures of "dice_NAME", each the mean over the cases in which the structure was looked
    for and found by the readers: as in MedDINOv3's evaluation, a case without it says nothing about overlap. Where
    slices count, "slice_dice", "slice_iou" and the same with names are means over the slices of all cases
    (in-domain transfer; papers.md, 001). Case and slice are judged as a user would get them, with the heads' rules, but
    on the prepared grid.

    Raises:
        ProstateXferError: no case shows any of the structures.
        CancelledError: the user stopped.
    """
    dices, slice_pairs = defaultdict(list), defaultdict(list)
    for index, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update("validate", index / len(cases), f"case {case.case_id}")
        for overlap in case_overlaps(case, logits_of(case), card, slices_above_pixels=slices_above_pixels):
            dices[overlap.structure].append(overlap.dice)
            slice_pairs[overlap.structure] += overlap.slices
    if not dices:
        raise ProstateXferError(
            f"None of the {len(cases)} validation cases shows {' or '.join(s.name for s in card.structures)}: "
            "choose another fold, or validate on other data."
        )
    values = {f"dice_{_key(name)}": float(np.mean(found)) for name, found in dices.items()}
    values["dice"] = float(np.mean(list(values.values())))
    for place, metric in enumerate(("slice_dice", "slice_iou")):
        means = {name: float(np.mean([pair[place] for pair in pairs])) for name, pairs in slice_pairs.items() if pairs}
        if means:
            values |= {f"{metric}_{_key(name)}": mean for name, mean in means.items()}
            values[metric] = float(np.mean(list(means.values())))
    return values


def case_overlaps(
    case: PreparedCase, logits: dict[str, Tensor], card: ModelCard, *, slices_above_pixels: int | None
) -> Iterator[CaseOverlap]:
    """Overlap of every structure that was drawn in the case."""
    found = composed_labels(case, logits, card)
    drawn = np.asarray(case.labels) if case.known else np.zeros(case.shape_zyx, np.uint8)
    for structure in card.structures:
        if structure.name not in case.known:
            continue
        reference = whole_structure_mask(drawn, structure, card.structures)
        if reference.any():
            prediction = whole_structure_mask(found, structure, card.structures)
            slices = () if slices_above_pixels is None else _slices(reference, prediction, slices_above_pixels)
            yield CaseOverlap(structure.name, dice(reference, prediction), tuple(slices))


def composed_labels(case: PreparedCase, logits: dict[str, Tensor], card: ModelCard) -> np.ndarray:
    """Label map (z, y, x) uint8 on the prepared grid, by the rules of the card's heads.

    Args:
        case: gives spacing and shape.
        logits: head name -> (z, K, y, x).
        card: the model's.
    """
    names = {structure.value: structure.name for structure in card.structures}
    probabilities: dict[str, np.ndarray] = {}
    for head in card.heads:
        classes = torch.softmax(logits[head.name].float(), dim=1).cpu().numpy()
        for place, value in enumerate(head.values, start=1):
            probabilities[names[value]] = smoothed(classes[:, place], head.smoothing_mm, case.spacing_zyx)
    grid = sitk.Image(case.shape_zyx[::-1], sitk.sitkUInt8)
    grid.SetSpacing(case.spacing_zyx[::-1])
    return compose_labels(probabilities, grid, [card], card.structures)


def _slices(reference: np.ndarray, prediction: np.ndarray, above_pixels: int) -> Iterator[tuple[float, float]]:
    for counts in slice_counts(reference, prediction):
        if counts.reference > above_pixels:
            yield counts.score("dice"), counts.score("iou")


def _key(structure: str) -> str:
    """A structure's name as part of a metric's: "Transition zone" -> "transition_zone"."""
    return structure.lower().replace(" ", "_")
