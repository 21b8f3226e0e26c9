# SPDX-License-Identifier: Apache-2.0
"""Lesions painted into real glands: dark, soft-edged blobs where no lesion labels are to be had.

They teach a head where to look and what a focal T2w-dark region is. They are no tumours, and a model trained on them
says so in its card.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ProstateXferLib.training.augmentation.slice_crops import blur, uniform


@dataclass(frozen=True)
class LesionPainter:
    """Paints into 2-D samples whose lesions nobody looked for; such samples then count as free of any but the painted.

    Attributes:
        lesion: position of the lesion among the structures, and its label value.
        gland: position of the gland, and the label values that belong to it.
        share: of the samples that get a lesion.
        spacing_mm: side of a pixel.
    """

    lesion: tuple[int, int]
    gland: tuple[int, tuple[int, ...]]
    share: float
    spacing_mm: float

    def __call__(self, sample: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The sample ("image" (1, H, W), "labels" (H, W) int64, "known" (S,) bool), perhaps with a lesion in it."""
        (place, value), (gland_place, gland_values) = self.lesion, self.gland
        known = sample["known"]
        if bool(known[place]) or not bool(known[gland_place]):
            return sample
        known = known.clone()
        known[place] = True
        if not uniform(0, 1, generator) < self.share:
            return sample | {"known": known}
        gland = torch.isin(sample["labels"], torch.tensor(gland_values))
        image, lesion = paint_lesion(sample["image"], gland, self.spacing_mm, generator)
        return {"image": image, "labels": torch.where(lesion, value, sample["labels"]), "known": known}


def paint_lesion(image: Tensor, gland: Tensor, spacing_mm: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint one lesion into a crop.

    Args:
        image: (1, H, W) z-scored T2w crop.
        gland: (H, W) bool.
        spacing_mm: side of a pixel.
        generator: source of all randomness.

    Returns:
        The image and the lesion mask (H, W) bool; the mask is empty where the gland is too small for a lesion.
    """
    g, nothing = generator, torch.zeros_like(gland)
    inside = gland.nonzero()
    if len(inside) * spacing_mm**2 < 200:  # under 2 cm2 the slice only grazes the gland
        return image, nothing
    seed = inside[int(torch.randint(len(inside), (), generator=g))].float()
    radius = uniform(3.0, 11.0, g) / spacing_mm
    aspect, angle = uniform(0.55, 1.0, g), uniform(0, math.pi, g)
    rows = torch.arange(gland.shape[0]) - seed[0]
    columns = torch.arange(gland.shape[1]) - seed[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    wobble = blur(torch.randn(1, *gland.shape, generator=g), 4.0)[0] * 4.0
    distance = torch.sqrt(along**2 + (across / aspect) ** 2) / radius + 0.6 * wobble
    soft = torch.sigmoid((1 - distance) * radius / 1.2) * gland
    lesion = (soft > 0.5) & gland
    if lesion.sum() * spacing_mm**2 < 20:  # smaller than 20 mm2 is no index lesion
        return image, nothing
    values = image[0][gland]
    low, spread = torch.quantile(values, 0.1), values.std().clamp_min(0.1)
    dark = low - uniform(0.0, 0.6, g) * spread + blur(torch.randn(1, *gland.shape, generator=g), 1.0)[0] * 0.35 * spread
    strength = uniform(0.6, 1.0, g) * blur(soft[None].float(), 0.7)[0]
    return (image[0] * (1 - strength) + dark * strength)[None], lesion
