# SPDX-License-Identifier: Apache-2.0
"""What a trained segmentation model scores on cases it never saw, through the same `Segmenter` that users run."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard, Score
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.overlap import dice
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.case_arrays import label_array
from ProstateXferLib.training.cache.phantom_case import render_phantom
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence
from ProstateXferLib.training.recipe.schema import Source

_LOGGER = logging.getLogger(__name__)
UNSEEN_PHANTOMS = "unseen phantoms"


def segmentation_scores(
    checkpoint: Path, cases: Sequence[Case], sources: Sequence[Source], *, device: str, progress: Progress
) -> list[Score]:
    """Mean Dice of every structure, for each set of test cases, on the images' own grids.

    Cases that do not show a structure say nothing about its overlap and are left out of its mean.

    Args:
        checkpoint: what was trained.
        cases: test cases.
        sources: where the recipe found them; their paths name the sets.
        device: where to run.
        progress: told every case; asked whether to stop.
    """
    segmenter = Segmenter(checkpoint, device=device)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for index, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update("score", index / len(cases), f"case {case.case_id}")
        for structure, value in case_dices(segmenter, case).items():
            found[_set_name(case, sources), structure].append(value)
            _LOGGER.info("%s, %s: Dice %.3f", case.case_id, structure, value)
    return [
        Score(_metric(structure, data), round(float(np.mean(values)), 4), data, len(values))
        for (data, structure), values in found.items()
    ]


def case_dices(segmenter: Segmenter, case: Case) -> dict[str, float]:
    """Structure name -> Dice on the case's own grid, parts and touching lesions included; structures that it shows."""
    card = segmenter.checkpoints[0].card
    images, truth = images_and_truth(case, card)
    found = sitk.GetArrayFromImage(segmenter.predict(images).labels)
    values = {}
    for structure in card.structures:
        if structure.name in truth and truth[structure.name].any():
            values[structure.name] = dice(
                truth[structure.name], whole_structure_mask(found, structure, card.structures)
            )
    return values


def images_and_truth(case: Case, card: ModelCard) -> tuple[dict[str, sitk.Image], Mapping[str, np.ndarray]]:
    """The images that the card asks for, and whole structures (z, y, x) bool where somebody looked for them."""
    names = [structure.name for structure in card.structures]
    if PHANTOM_SEED in case.attributes:
        images, masks = render_phantom(case, card.inputs, names)
        grid = Grid.of(images[0])
    else:
        images = [read_sequence(case, sequence) for sequence in card.inputs]
        grid = Grid.of(images[0])
        masks = {
            name: sitk.GetArrayFromImage(read_mask(case.masks[name], grid)) > 0 for name in names if name in case.masks
        }
    drawn = label_array(masks, card.structures, grid)
    truth = {s.name: whole_structure_mask(drawn, s, card.structures) for s in card.structures if s.name in masks}
    return dict(zip(card.inputs, images, strict=True)), truth


def _set_name(case: Case, sources: Sequence[Source]) -> str:
    """The path of the source that the case lies in; of one that is trained on as well, its held-out cases."""
    if PHANTOM_SEED in case.attributes:
        return UNSEEN_PHANTOMS
    image = str(next(iter(case.images.values())).as_posix())
    inside = [source for source in sources if source.path and f"/{source.path.strip('/')}/" in f"/{image}"]
    if not inside:
        return "test cases"
    source = max(inside, key=lambda one: len(one.path))
    return source.path if source.test_only else f"{source.path}, held out"


def _metric(structure: str, data: str) -> str:
    if structure == PROSTATE.name:
        return "mean whole-gland Dice"
    warning = " (phantom lesions, not patients)" if structure == DIL.name and data == UNSEEN_PHANTOMS else ""
    return f"mean {structure} Dice{warning}"
