# SPDX-License-Identifier: Apache-2.0
"""The training samples of a segmentation stage: cut, painted, augmented, and the random numbers that go with each."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.augmentation.painted_lesions import LesionPainter
from ProstateXferLib.training.augmentation.presets import preset
from ProstateXferLib.training.cache.features import FeatureOptions, cached_features
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.augmented import AugmentedSamples
from ProstateXferLib.training.sampling.draws import generator_of
from ProstateXferLib.training.sampling.feature_slices import FeatureSliceOptions, FeatureSliceSamples
from ProstateXferLib.training.sampling.lesion_centred import LesionCentredSamples
from ProstateXferLib.training.sampling.mixture import MixtureSamples
from ProstateXferLib.training.sampling.patches import PatchOptions, PatchSamples
from ProstateXferLib.training.sampling.slices import SliceOptions, SliceSamples
from ProstateXferLib.training.tasks.segmentation_settings import SegmentationSettings
from ProstateXferLib.training.tasks.task import Samples

Sources = Sequence[tuple[float, Sequence[PreparedCase]]]


def feature_samples(
    sources: Sources,
    settings: SegmentationSettings,
    network: MRDINOv3,
    *,
    folder: Path,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> Samples:
    """Samples of cached tokens of all sources by weight.

    Args:
        sources: (weight, prepared cases).
        settings: of the stage; with `features` and `slices`.
        network: its encoder is frozen and run once over every slice; it ends on the CPU.
        folder: the cache.
        device: where to encode.
        seed: of the views and of everything that is drawn.
        progress: told every case that is encoded.
    """
    slices, features = settings.slices, settings.features
    store = FeatureOptions(
        dtype=features.dtype,
        size_yx=slices.size_yx,
        mirrored=features.mirrored,
        views=features.views,
        augmentation=settings.augmentation,
        warp=slices.warp,
        anywhere=slices.anywhere,
        seed=seed,
    )
    choice = FeatureSliceOptions(slices.foreground_share, slices.even_cases, slices.minimum_pixels)
    options = {"folder": folder, "device": device, "options": store, "progress": progress}
    parts = [
        (weight, FeatureSliceSamples(cached_features(network, cases, **options), choice, seed))
        for weight, cases in _annotated(sources, settings)
    ]
    network.cpu()
    return parts[0][1] if len(parts) == 1 else MixtureSamples(parts, seed)


def segmentation_samples(sources: Sources, settings: SegmentationSettings, *, batch_size: int, seed: int) -> Samples:
    """Samples of all sources by weight, augmented; see sampling/ for what each gives.

    Args:
        sources: (weight, prepared cases); cases without any structure known are left out, they teach nothing.
        settings: of the stage.
        batch_size: samples of an optimiser step.
        seed: of everything that is drawn.

    Raises:
        ProstateXferError: no annotated case, or settings that do not fit each other.
    """
    annotated = _annotated(sources, settings)
    settings = _with_one_size(settings, [case for _, cases in annotated for case in cases])
    parts = [(weight, _samples_of(cases, settings, batch_size, seed)) for weight, cases in annotated]
    samples: Samples = parts[0][1] if len(parts) == 1 else MixtureSamples(parts, seed)
    if settings.augmentation != "none" or settings.patches is not None:
        size = _final_size(settings)
        changes = preset(settings.augmentation, spatial_dims=len(size), patch_size=size)
        samples = AugmentedSamples(samples, changes, seed)
    return samples


def _annotated(sources: Sources, settings: SegmentationSettings) -> list[tuple[float, list[PreparedCase]]]:
    """The sources with the cases that teach something."""
    annotated = [(weight, [case for case in cases if case.known]) for weight, cases in sources]
    annotated = [(weight, cases) for weight, cases in annotated if cases]
    if not annotated:
        names = ", ".join(structure.name for structure in settings.structures)
        raise ProstateXferError(f"None of the training cases has {names} drawn: check the data's layout and options.")
    _check_heads([case for _, cases in annotated for case in cases], settings)
    return annotated


def _check_heads(cases: Sequence[PreparedCase], settings: SegmentationSettings) -> None:
    """Refuse a head that nothing teaches: its random voxels would be laid over what the others find."""
    taught = [set(case.known) for case in cases]
    if settings.paint is not None:
        taught += [known | {settings.paint.structure} for known in taught if settings.paint.within in known]
    for head, named in zip(settings.heads, settings.structures_by_head, strict=True):
        if not any(known >= {structure.name for structure in named} for known in taught):
            raise ProstateXferError(
                f"No training case teaches the head '{head.name}' ({', '.join(head.values)}): leave it out of "
                "settings.heads, or add data in which somebody looked for that."
            )


def _with_one_size(settings: SegmentationSettings, cases: Sequence[PreparedCase]) -> SegmentationSettings:
    """Whole slices of all sources go into one batch: they are padded to the largest of all."""
    slices = settings.slices
    if slices is None or slices.warp is not None or slices.size_yx is not None:
        return settings
    size_yx = tuple(
        math.ceil(max(case.shape_zyx[axis] for case in cases) / slices.multiple) * slices.multiple for axis in (1, 2)
    )
    return dataclasses.replace(settings, slices=dataclasses.replace(slices, size_yx=size_yx))


class SamplesWithDraws:
    """Samples with "draw" (N,) besides: a uniform random number for each 16 x 16 patch (losses/token_subset.py).

    It comes with the sample, so that it depends on the sample's number alone and not on which process works it off.
    """

    def __init__(self, samples: Samples, seed: int) -> None:
        self._samples, self._seed = samples, seed

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        sample = self._samples[index]
        count = sample["labels"].numel() // PATCH**2
        draw = generator_of(self._seed, index, "tokens").random(count, dtype=np.float32)
        return sample | {"draw": torch.from_numpy(draw)}


def _samples_of(cases: Sequence[PreparedCase], settings: SegmentationSettings, batch_size: int, seed: int) -> Samples:
    if settings.slices is not None:
        return SliceSamples(cases, _slice_options(settings), seed, change=_painter(settings))
    if settings.lesion_centred is not None:
        return LesionCentredSamples(cases, settings.lesion_centred, seed)
    final = _tile(settings.preprocessing)
    if final is None:
        raise ProstateXferError("Patches have the size of the preprocessing's tile: give tile_yx or tile_zyx.")
    size = preset(settings.augmentation, spatial_dims=len(final), patch_size=final).source_size
    options = PatchOptions(
        size=tuple(size), final_size=final, batch_size=batch_size, oversample=settings.patches.oversample
    )
    return PatchSamples(cases, options, seed)


def _slice_options(settings: SegmentationSettings) -> SliceOptions:
    """The slices' own options, but cut as large as the augmentation needs them."""
    slices = settings.slices
    if settings.augmentation == "none":
        return slices
    if slices.warp is not None:
        raise ProstateXferError(
            f"The slices' warp is an augmentation of its own: leave out either it or '{settings.augmentation}'."
        )
    size = preset(settings.augmentation, spatial_dims=2, patch_size=slices.size_yx).source_size
    return dataclasses.replace(slices, size_yx=tuple(size))


def _painter(settings: SegmentationSettings) -> LesionPainter | None:
    paint = settings.paint
    if paint is None:
        return None
    if settings.preprocessing.spacing_yx_mm is None or len(settings.sequences) > 1:
        raise ProstateXferError("Lesions are painted into one sequence of known spacing: give spacing_yx_mm.")
    place = {structure.name: index for index, structure in enumerate(settings.structures)}
    value = {structure.name: structure.value for structure in settings.structures}
    inside = tuple(s.value for s in settings.structures if paint.within in (s.name, s.part_of))
    return LesionPainter(
        lesion=(place[paint.structure], value[paint.structure]),
        gland=(place[paint.within], inside),
        share=paint.share,
        spacing_mm=settings.preprocessing.spacing_yx_mm[1],
    )


def _final_size(settings: SegmentationSettings) -> tuple[int, ...]:
    """Size of what an augmentation leaves for the learner."""
    if settings.lesion_centred is not None:
        return settings.lesion_centred.size_zyx
    return _tile(settings.preprocessing) if settings.slices is None else settings.slices.size_yx


def _tile(preprocessing: Preprocessing) -> tuple[int, ...] | None:
    return preprocessing.tile_zyx or preprocessing.tile_yx
