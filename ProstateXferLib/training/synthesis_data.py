# SPDX-License-Identifier: Apache-2.0
"""Paired slices for DGCF: phantoms in both modalities, and CBCT simulated from real CT."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.phantom import default_ct_grid, make_phantom, simulate_cbct
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.training.augmentation.slice_crops import uniform


@dataclass(frozen=True)
class PairedStudy:
    """Source and target slices (z, H, W) float32 in [-1, 1] on one grid."""

    name: str
    source: Tensor
    target: Tensor


def prepare_pair(
    name: str, source: sitk.Image, ct: sitk.Image, *, preprocessing: Preprocessing, hu_range: tuple[float, float]
) -> PairedStudy:
    """Prepare the source as inference does and the CT by the HU range, both in the same size."""
    target_rule = Preprocessing(
        IntensityRule("window", *hu_range), preprocessing.spacing_yx_mm, preprocessing.resize_yx
    )
    return PairedStudy(name, prepare_slices(source, preprocessing).slices, prepare_slices(ct, target_rule).slices)


def phantom_pairs(
    seeds: Sequence[int], sequence: str, *, preprocessing: Preprocessing, hu_range: tuple[float, float]
) -> Iterator[PairedStudy]:
    """Phantoms of the given seeds, on the pelvic CT grid with slices 6 mm apart (neighbours teach little)."""
    modality = "t2w" if sequence == "T2w" else "cbct"
    for seed in seeds:
        study = make_phantom(seed).render(default_ct_grid(), modalities=(modality, "ct"))
        source = getattr(study, modality)[:, :, ::2]
        yield prepare_pair(
            f"phantom {seed}", source, study.ct[:, :, ::2], preprocessing=preprocessing, hu_range=hu_range
        )


def simulated_cbct_pairs(
    folders: Sequence[Path], *, preprocessing: Preprocessing, hu_range: tuple[float, float], variants: int = 2
) -> Iterator[PairedStudy]:
    """CBCT simulated from every real CT (FOLDER/ct.nii.gz), with several draws of noise and artefacts.

    Raises:
        ProstateXferError: a folder without CT.
    """
    for folder in folders:
        path = folder / "ct.nii.gz"
        if not path.is_file():
            raise ProstateXferError(f"There is no CT '{path}': correct ct_folders in the recipe or give --data.")
        ct = read_image(path)
        for variant in range(variants):
            source = simulate_cbct(ct, seed=variant)
            yield prepare_pair(f"{folder.name} {variant}", source, ct, preprocessing=preprocessing, hu_range=hu_range)


def synthesis_batches(
    sources: Sequence[tuple[float, Sequence[PairedStudy]]], *, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Endless batches: image and target (B, 1, H, W) float32 in [-1, 1].

    Left and right are swapped half the time, and slices are moved by up to 16 pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.tensor([weight for weight, _ in sources])
    while True:
        pairs = [_draw(sources, weights, generator) for _ in range(batch_size)]
        images, targets = zip(*pairs, strict=True)
        yield {"image": torch.stack(images), "target": torch.stack(targets)}


def _draw(
    sources: Sequence[tuple[float, Sequence[PairedStudy]]], weights: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    studies = sources[int(torch.multinomial(weights, 1, generator=generator))][1]
    study = studies[int(torch.randint(len(studies), (), generator=generator))]
    index = int(torch.randint(len(study.source), (), generator=generator))
    source, target = study.source[index][None], study.target[index][None]
    if uniform(0, 1, generator) < 0.5:
        source, target = source.flip(-1), target.flip(-1)
    shift = [int(pixels) for pixels in torch.randint(-16, 17, (2,), generator=generator)]
    return torch.roll(source, shift, dims=(-2, -1)), torch.roll(target, shift, dims=(-2, -1))
