# SPDX-License-Identifier: Apache-2.0
"""The image and label arrays of one case, made from its files (or its phantom) by the card's rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.pipelines.preparation import prepare_channels, resized
from ProstateXferLib.training.cache.phantom_case import render_phantom
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence


@dataclass(frozen=True)
class CaseArrays:
    """One case in axial order.

    Attributes:
        image: (C, z, y, x) float32, a channel a sequence.
        labels: (z, y, x) uint8 label values, None where nothing was annotated.
        known: names of the structures that were annotated, in the order of the card.
        spacing_zyx: mm between voxels (to Superior, to Posterior, to Left).
    """

    image: np.ndarray
    labels: np.ndarray | None
    known: tuple[str, ...]
    spacing_zyx: tuple[float, float, float]


def case_arrays(
    case: Case, preprocessing: Preprocessing, structures: Sequence[Structure], *, sequences: Sequence[str]
) -> CaseArrays:
    """Read a case and bring it to the network's grid: the image as inference does, labels by nearest neighbour.

    Raises:
        ProstateXferError: a file that cannot be read or used, a mask on another grid.
    """
    if PHANTOM_SEED in case.attributes:
        images, masks = render_phantom(case, sequences, [structure.name for structure in structures])
    else:
        images = [_checked(case, sequence) for sequence in sequences]
        masks = _masks(case, structures, Grid.of(images[0]))
    prepared = prepare_channels(images, preprocessing)
    known = tuple(structure.name for structure in structures if structure.name in masks)
    labels = None
    if known:
        drawn = prepared.view.apply(label_array(masks, structures, Grid.of(images[0])))
        shape = tuple(prepared.channels.shape[1:])
        # float32 holds every label value exactly.
        labels = resized(torch.from_numpy(drawn)[None].float(), shape, mode="nearest")[0].to(torch.uint8).numpy()
    return CaseArrays(prepared.channels.numpy(), labels, known, prepared.spacing_zyx)


def label_array(masks: Mapping[str, np.ndarray], structures: Sequence[Structure], grid: Grid) -> np.ndarray:
    """Label values (z, y, x) uint8 on a grid: structures in the order of the card, parts over the whole.

    Args:
        masks: structure name -> (z, y, x) bool on the grid.
        structures: all that may be drawn.
        grid: of the masks.
    """
    labels = np.zeros(grid.shape_zyx, np.uint8)
    for structure in drawing_order(structures):
        if structure.name in masks:
            labels[masks[structure.name]] = structure.value
    return labels


def drawing_order(structures: Sequence[Structure]) -> list[Structure]:
    """The structures in the order of the card, but none before the one that it is part of (a DIL over the prostate)."""
    by_name = {structure.name: structure for structure in structures}

    def depth(structure: Structure) -> int:
        above, seen = 0, {structure.name}
        while structure.part_of in by_name and structure.part_of not in seen:
            structure = by_name[structure.part_of]
            seen.add(structure.name)
            above += 1
        return above

    return sorted(structures, key=depth)


def _checked(case: Case, sequence: str) -> sitk.Image:
    image = read_sequence(case, sequence)
    check_image(image, f"{sequence} image of case '{case.case_id}'")
    return image


def _masks(case: Case, structures: Sequence[Structure], grid: Grid) -> dict[str, np.ndarray]:
    """Structure name -> (z, y, x) bool of the structures that were annotated."""
    annotated = [structure.name for structure in structures if structure.name in case.masks]
    return {name: sitk.GetArrayFromImage(read_mask(case.masks[name], grid)) > 0 for name in annotated}
