# SPDX-License-Identifier: Apache-2.0
"""Only the structures of the ticked tasks, from one segmentation or from two that were made by different models."""

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import PROSTATE, Structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.naming import gland_of, is_lesion, resolve_structures
from ProstateXferLib.pipelines.provenance import Provenance
from ProstateXferLib.pipelines.sample import Sample, distinct_names
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.progress import Progress

_LARGEST_LABEL = 255


def ticked_structures(segmentation: Segmentation, tasks: Sequence[Task]) -> Segmentation:
    """The segmentation with lesions for the DIL task and everything else for the prostate task; its samples likewise.

    Where the lesions go, the gland they lie in stays whole: the voxels of those that touch it become gland.
    """
    described = resolve_structures((), None, segmentation.structures)
    found = [s for s in described if _is_found(s, described, segmentation)]
    kept = tuple(s for s in found if (Task.DIL if is_lesion(s) else Task.PROSTATE) in tasks)
    return replace(
        segmentation,
        labels=_reduced(segmentation.labels, kept, described),
        structures=kept,
        probabilities={
            s.name: segmentation.probabilities[s.name] for s in kept if s.name in segmentation.probabilities
        },
        samples=_ticked_samples(segmentation.samples, {s.name for s in kept}),
    )


def gland_with_lesions(prostate: Segmentation, dil: Segmentation, progress: Progress) -> Segmentation:
    """The gland of one model with the lesions of another in it, both on one grid and each cut to its task.

    Lesions end at the gland: a volume that lay outside is cut off and told in cm³. The samples are those of both, each
    with the structures of its own model, and the lesions in them end at the gland of the result, too.
    """
    gland = gland_of(prostate.structures) or PROSTATE
    labels = sitk.GetArrayFromImage(prostate.labels)
    inside = whole_structure_mask(labels, gland, prostate.structures)
    lesions = sitk.GetArrayViewFromImage(dil.labels)
    _warn_of_cut(int(np.count_nonzero((lesions != 0) & ~inside)), dil, progress)
    structures = list(prostate.structures)
    for lesion in dil.structures:
        free = _free_value(lesion, structures)
        labels[(lesions == lesion.value) & inside] = free
        structures.append(lesion.with_value(free))
    cut = tuple(replace(s, labels=_within(s.labels, inside)) for s in dil.samples)
    return Segmentation(
        Grid.of(prostate.labels).image(labels),
        resolve_structures((), None, structures),
        {**prostate.probabilities, **dil.probabilities},
        _joined(prostate.provenance, dil.provenance),
        samples=_with_own_names((*prostate.samples, *cut)),
        sampled_by=" and ".join(dict.fromkeys(word for word in (prostate.sampled_by, dil.sampled_by) if word)),
    )


def _with_own_names(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples of two models, whose folds and mirrorings have the same names."""
    names = distinct_names([sample.name for sample in samples])
    return tuple(replace(sample, name=name) for sample, name in zip(samples, names, strict=True))


def _ticked_samples(samples: Sequence[Sample], names: Container[str]) -> tuple[Sample, ...]:
    """The samples with the structures of these names alone; those that know none of them are left out."""
    ticked = []
    for sample in samples:
        described = resolve_structures((), None, sample.structures)
        if kept := tuple(s for s in described if s.name in names):
            ticked.append(replace(sample, labels=_reduced(sample.labels, kept, described), structures=kept))
    return tuple(ticked)


def _reduced(labels: sitk.Image, kept: Sequence[Structure], described: Sequence[Structure]) -> sitk.Image:
    """The label map of the kept structures; the gland, if it is one of them, gets the voxels of lesions that go."""
    labels_zyx = sitk.GetArrayFromImage(labels)
    reduced = np.where(np.isin(labels_zyx, [s.value for s in kept]), labels_zyx, 0).astype(labels_zyx.dtype)
    gland = gland_of(kept)
    if gland is not None:
        whole = whole_structure_mask(labels_zyx, gland, described)
        reduced[whole & (reduced == 0)] = gland.value
    return Grid.of(labels).image(reduced)


def _within(labels: sitk.Image, inside_zyx: np.ndarray) -> sitk.Image:
    """The label map without what lies outside a bool array (z, y, x)."""
    labels_zyx = sitk.GetArrayViewFromImage(labels)
    return Grid.of(labels).image(np.where(inside_zyx, labels_zyx, 0).astype(labels_zyx.dtype))


def _is_found(structure: Structure, described: Sequence[Structure], segmentation: Segmentation) -> bool:
    """Whether a head finds it or a part of it; what a card describes beyond that would be a row of zeros."""
    names = {structure.name, *(s.name for s in described if s.part_of == structure.name and not is_lesion(s))}
    return not names.isdisjoint(segmentation.probabilities)


def _warn_of_cut(voxels: int, dil: Segmentation, progress: Progress) -> None:
    if not voxels:
        return
    volume_cm3 = voxels * Grid.of(dil.labels).voxel_volume_mm3 / 1000
    volume = f"{volume_cm3:.2f} cm³" if volume_cm3 >= 0.01 else "Less than 0.01 cm³"
    progress.warn(f"{volume} of the DIL lay outside the prostate that the other model found, and was cut off.")


def _free_value(structure: Structure, taken: Sequence[Structure]) -> int:
    values = {s.value for s in taken}
    if structure.value not in values:
        return structure.value
    free = next((value for value in range(1, _LARGEST_LABEL + 1) if value not in values), None)
    if free is None:
        raise ProstateXferError("The two models find more structures than a label map can hold: choose others.")
    return free


def _joined(first: Provenance | None, second: Provenance | None) -> Provenance | None:
    """One record of two runs: the models in their order, the times added."""
    if first is None or second is None:
        return first or second
    options = {
        key: value if second.options.get(key) == value else f"{value}, {second.options.get(key)}"
        for key, value in first.options.items()
    }
    return replace(
        first,
        models=(*first.models, *second.models),
        options=options,
        input_sha256={**first.input_sha256, **second.input_sha256},
        seconds=round(first.seconds + second.seconds, 3),
        warnings=tuple(dict.fromkeys((*first.warnings, *second.warnings))),
    )
