# SPDX-License-Identifier: Apache-2.0
"""Training crops for gland and lesion heads from whole labelled studies held in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import SimpleITK as sitk
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import DIL
from ProstateXferLib.pipelines.preparation import prepare_slices, resize
from ProstateXferLib.training.augmentation.slice_crops import (
    CropOptions,
    random_crop_grid,
    random_intensity,
    sample,
    uniform,
)
from ProstateXferLib.training.painted_lesions import paint_lesion

GLAND_SLICES = 0.5
"""Share of crops taken from slices that show the gland; the others come from all slices, above and below it too.
With three quarters the bladder was taken for gland in the slices above it."""
ANYWHERE = 0.12
"""Share of crops centred anywhere, so that tiles away from the gland stay empty."""


@dataclass(frozen=True)
class LabelledStudy:
    """One prepared study: slices (z, H, W) float32, labels (z, H, W) uint8 (0, gland, DIL), pixel side in mm.

    `paint` says that lesions may be painted in, because the study has no lesion labels of its own.
    """

    name: str
    slices: Tensor
    labels: Tensor
    spacing_mm: float
    paint: bool
    gland_slices: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gland_slices", (self.labels > 0).flatten(1).any(1).nonzero()[:, 0])


def prepare_study(
    name: str, image: sitk.Image, labels: sitk.Image, *, preprocessing: Preprocessing, paint: bool
) -> LabelledStudy:
    """Prepare an image exactly as inference does, and its label map with the same geometry (nearest neighbour)."""
    if not Grid.of(image).same_as(Grid.of(labels)):
        raise ProstateXferError(f"The labels of '{name}' lie on another grid than its image: correct the data.")
    prepared = prepare_slices(image, preprocessing)
    values = torch.from_numpy(prepared.view.apply(sitk.GetArrayFromImage(labels)).copy()).float()
    size = tuple(prepared.slices.shape[1:])
    if tuple(values.shape[1:]) != size:
        values = resize(values[:, None], size, mode="nearest")[:, 0]
    return LabelledStudy(name, prepared.slices, values.to(torch.uint8), prepared.spacing_zyx[1], paint)


def segmentation_batches(
    sources: Sequence[tuple[float, Sequence[LabelledStudy]]],
    *,
    batch_size: int,
    options: CropOptions,
    paint_share: float,
    seed: int,
) -> Iterator[dict[str, Tensor]]:
    """Endless batches: image (B, 1, S, S) float32, gland and dil (B, S, S) int64.

    Args:
        sources: (weight, studies) pairs; a crop's source is drawn by weight, then a study, then a slice.
        batch_size: crops per batch.
        options: geometry of the crops.
        paint_share: share of crops of `paint` studies that get a painted lesion.
        seed: same seed, same batches.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.tensor([weight for weight, _ in sources])
    while True:
        crops = []
        for _ in range(batch_size):
            studies = sources[int(torch.multinomial(weights, 1, generator=generator))][1]
            study = studies[int(torch.randint(len(studies), (), generator=generator))]
            crops.append(_crop(study, options, paint_share, generator))
        images, labels = zip(*crops, strict=True)
        stacked = torch.stack(labels)
        yield {"image": torch.stack(images), "gland": (stacked > 0).long(), "dil": (stacked == DIL.value).long()}


def _crop(study: LabelledStudy, options: CropOptions, paint_share: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    show_gland = uniform(0, 1, g) < GLAND_SLICES and len(study.gland_slices)
    choices = study.gland_slices if show_gland else torch.arange(len(study.slices))
    index = int(choices[int(torch.randint(len(choices), (), generator=g))])
    labels, shape = study.labels[index], tuple(study.labels.shape[1:])
    where = (labels > 0).nonzero().float()
    centre = tuple(where.mean(0).tolist()) if len(where) else (shape[0] / 2, shape[1] / 2)
    if uniform(0, 1, g) < ANYWHERE:
        centre = (uniform(0, shape[0], g), uniform(0, shape[1], g))
    grid = random_crop_grid(shape, centre, options, g)
    image = sample(study.slices[index][None], grid, padding="zeros")
    label = sample(labels[None], grid, mode="nearest", padding="zeros")[0].to(torch.uint8)
    if study.paint and uniform(0, 1, g) < paint_share:
        image, lesion = paint_lesion(image, label > 0, study.spacing_mm, g)
        label = torch.where(lesion, torch.tensor(DIL.value, dtype=torch.uint8), label)
    return random_intensity(image, g), label
