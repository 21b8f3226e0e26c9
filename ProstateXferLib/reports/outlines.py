# SPDX-License-Identifier: Apache-2.0
"""What is drawn around structures in a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.metrics.naming import resolve_structures

# Bluish green, readable on grey for the colour-blind as well; the structures' own colours are warm.
REFERENCE_RGB = (64, 224, 196)


@dataclass(frozen=True)
class Outline:
    """A named line around a mask (an image, not zero = inside), solid or dashed; thin for one of many of its name."""

    name: str
    mask: sitk.Image
    color_rgb: tuple[int, int, int]
    dashed: bool = False
    thin: bool = False


def outlines_of(labels: Any, names: Mapping[int, str] | None = None, reference: Any = None) -> list[Outline]:
    """Solid outlines in the structures' colours, and before them dashed ones of the reference, where it is given.

    Arguments as of `metrics.measure`. The prostate's outline runs around its lesions too. What has no voxel has no
    outline.
    """
    image = getattr(labels, "labels", labels)
    truth = getattr(reference, "labels", reference)
    values = np.unique(sitk.GetArrayViewFromImage(image))
    if truth is not None:
        values = np.union1d(values, np.unique(sitk.GetArrayViewFromImage(truth)))
    named = names if names is not None else getattr(labels, "names", None)
    structures = resolve_structures(
        [int(v) for v in values if v != 0], named, getattr(labels, "structures", None) or ()
    )
    outlines = [] if truth is None else _outlines(truth, structures, is_reference=True)
    return outlines + _outlines(image, structures, is_reference=False)


def sample_outlines(segmentation: Any) -> list[Outline]:
    """Thin outlines of what each sample found alone, in the colours of the result's structures.

    `segmentation` has `.structures` and `.samples` as a Segmenter returns it. Outlines of one structure share a name.
    """
    color_of = {structure.name: structure.color_rgb for structure in segmentation.structures}
    outlines = []
    for sample in segmentation.samples:
        structures = resolve_structures((), None, sample.structures)
        for outline in _outlines(sample.labels, structures, is_reference=False):
            if outline.name in color_of:
                name = f"{outline.name}, each sample"
                outlines.append(replace(outline, name=name, color_rgb=color_of[outline.name], thin=True))
    return outlines


def _outlines(image: sitk.Image, structures: Sequence[Structure], *, is_reference: bool) -> list[Outline]:
    labels_zyx, grid = sitk.GetArrayViewFromImage(image), Grid.of(image)
    outlines = []
    for structure in structures:
        mask_zyx = whole_structure_mask(labels_zyx, structure, structures)
        if mask_zyx.any():
            name = f"{structure.name} (reference)" if is_reference else structure.name
            color_rgb = REFERENCE_RGB if is_reference else structure.color_rgb
            outlines.append(Outline(name, grid.image(mask_zyx), color_rgb, dashed=is_reference))
    return outlines
