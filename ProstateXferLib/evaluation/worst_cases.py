# SPDX-License-Identifier: Apache-2.0
"""The cases that went worst, drawn: slices with both outlines, or a synthetic CT with its difference map."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.catalog import metric_of
from ProstateXferLib.evaluation.cell_text import number_text
from ProstateXferLib.evaluation.evaluate_case import METHOD_ROLES, read_pair
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.label_pair import LabelPair, read_labels
from ProstateXferLib.evaluation.synthesis_scores import BODY, read_ct_reference, read_synthetic_ct
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.reports.figures import axial_slices, synthetic_ct
from ProstateXferLib.reports.outlines import REFERENCE_RGB, Outline
from ProstateXferLib.reports.page import Figure

_SLICES = 3
_SHOWN = {
    "segmentation": ("dice", "hd95", "volume_reference", "volume_prediction", "centroid_distance"),
    "sct": ("mae", "me", "psnr", "ssim"),
}


@dataclass(frozen=True)
class WorstCase:
    """The place of a case in the ranking of one structure by one method."""

    number: int
    case: str
    method: str
    structure: str
    rank: int


def worst_cases(evaluation: Evaluation) -> list[WorstCase]:
    """For each structure (the body, for synthetic CTs) the worst by Dice (MAE), worst first; equal ones by name.

    A case without a prediction of the structure has Dice 0 and comes first: it is the worst there is.
    """
    key = "dice" if evaluation.options.kind == "segmentation" else "mae"
    structures = evaluation.structures if evaluation.options.kind == "segmentation" else (BODY,)
    metric, method = metric_of(key), evaluation.options.methods[0]
    found = []
    for structure in structures:
        column = evaluation.column(method, structure, key)
        order = sorted(
            (k for k, value in enumerate(column) if math.isfinite(value)),
            key=lambda k: (-metric.badness(column[k]), evaluation.results[k].case),
        )
        for rank, k in enumerate(order[: evaluation.options.worst], start=1):
            found.append(WorstCase(k, evaluation.results[k].case, method, structure, rank))
    return found


def worst_case_figures(evaluation: Evaluation, worst: list[WorstCase]) -> Iterator[Figure]:
    """One figure a case, read anew: no image stays in memory while a cohort is evaluated."""
    for one in worst:
        files = evaluation.files[one.number].files
        draw = _segmentation_picture if evaluation.options.kind == "segmentation" else _synthesis_picture
        try:
            title, caption, picture = draw(evaluation, one, files)
        except (ProstateXferError, OSError):
            continue  # the file is gone since it was scored; its numbers stand in the tables
        place = f"Worst case {one.rank} by {title}"
        yield Figure(f"{place}: {one.case}", f"{caption} {_numbers(evaluation, one)}", picture)


def _segmentation_picture(evaluation: Evaluation, one: WorstCase, files: Mapping[str, Path]) -> tuple[str, str, bytes]:
    role = METHOD_ROLES[evaluation.options.methods.index(one.method)]
    pair = read_pair(files, role, read_labels(files["reference"]), evaluation.options)
    structure = next(s for s in pair.structures if s.name == one.structure)
    masks = {
        name: _full_mask(pair, labels, structure)
        for name, labels in (("reference", pair.reference_zyx), ("prediction", pair.prediction_zyx))
    }
    outlines = []
    if masks["reference"].any():
        mask = pair.grid.image(masks["reference"])
        outlines.append(Outline(f"{one.structure} (reference)", mask, REFERENCE_RGB, dashed=True))
    if masks["prediction"].any():
        outlines.append(Outline(one.structure, pair.grid.image(masks["prediction"]), structure.color_rgb))
    image, window, shown = _background(files, pair, masks)
    drawn = axial_slices(image, outlines, count=_SLICES, window=window)
    return f"Dice, {one.structure}", f"{shown} Solid: {one.method}; dashed: the reference.", drawn


def _background(
    files: Mapping[str, Path], pair: LabelPair, masks: Mapping[str, np.ndarray]
) -> tuple[sitk.Image, tuple[float, float] | None, str]:
    """What the outlines are drawn on: the image where there is one, else both masks in grey."""
    if "image" in files:
        image = read_image(files["image"])
        if not Grid.of(image).same_as(pair.grid):
            image = resample_to_grid(image, pair.grid)
        return image, None, "Axial slices of the image."
    grey = 0.3 * masks["reference"].astype(np.float32) + 0.3 * masks["prediction"]
    return pair.grid.image(grey), (0.0, 1.0), "Axial slices of both masks (lighter where they agree; no image given)."


def _full_mask(pair: LabelPair, labels_zyx: np.ndarray, structure: Structure) -> np.ndarray:
    mask = np.zeros(pair.grid.shape_zyx, dtype=bool)
    mask[pair.box] = whole_structure_mask(labels_zyx, structure, pair.structures)
    return mask


def _synthesis_picture(evaluation: Evaluation, one: WorstCase, files: Mapping[str, Path]) -> tuple[str, str, bytes]:
    reference = read_ct_reference(files)
    grid = Grid.of(reference.ct)
    role = METHOD_ROLES[evaluation.options.methods.index(one.method)]
    synthetic, _ = read_synthetic_ct(files[role], grid, resample=evaluation.options.resample)
    source = None
    if "image" in files:
        source = read_image(files["image"])
        source = source if Grid.of(source).same_as(grid) else resample_to_grid(source, grid)
    drawn = synthetic_ct(synthetic, source=source, truth=reference.ct, mask=reference.inside)
    return "MAE", f"{one.method} beside the true CT, and their difference inside the body.", drawn


def _numbers(evaluation: Evaluation, one: WorstCase) -> str:
    """The case's main numbers in a line."""
    parts = []
    for key in _SHOWN[evaluation.options.kind]:
        metric = metric_of(key)
        value = evaluation.column(one.method, one.structure, key)[one.number]
        unit = f" {metric.unit}" if metric.unit and not math.isnan(value) else ""
        parts.append(f"{metric.title} {number_text(value, metric.decimals)}{unit}")
    return f"{'; '.join(parts)}."
