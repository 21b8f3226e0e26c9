# SPDX-License-Identifier: Apache-2.0
"""Training samples of 2-D networks: axial slices, whole or cropped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.augmentation.slice_crops import (
    CropOptions,
    random_crop_grid,
    random_intensity,
    sample,
)
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.draws import draw_seed, generator_of
from ProstateXferLib.training.sampling.slice_choice import SliceChoice
from ProstateXferLib.training.sampling.tensors import cut_box, known_flags

SampleChange = Callable[[dict[str, Tensor], torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class SliceOptions:
    """Which slices, and which part of them.

    Attributes:
        size_yx: rows and columns that are cut; None takes slices whole, padded to the largest one of all cases.
        multiple: whole slices' sides are padded to a multiple of this (16 for DINOv3, 32 for EfficientNet-B3).
        foreground_share: share of samples from slices that show a structure, the others come from all slices; None
            gives every slice once an epoch, in an order drawn anew for each.
        even_cases: with a foreground_share, a case is drawn first and then one of its slices, so that cases of many
            slices come up no more often than others.
        minimum_pixels: slices count only with more pixels of structures than this (200: paper 001, "mask > 200
            pixels"); 0 lets all slices count, drawn on or not.
        anywhere: share of crops centred anywhere in the slice; the others are centred on what is drawn there, or on
            the slice's middle.
        warp: crops are turned, scaled, bent and changed in intensity by `augmentation/slice_crops`; its `size` counts
            instead of `size_yx`.
    """

    size_yx: tuple[int, int] | None = None
    multiple: int = 16
    foreground_share: float | None = None
    even_cases: bool = False
    minimum_pixels: int = 0
    anywhere: float = 0.12
    warp: CropOptions | None = None

    def __post_init__(self) -> None:
        if self.size_yx is not None and min(self.size_yx) < 1:
            raise ProstateXferError(f"The slices' size_yx is {self.size_yx}: give two numbers of 1 or more.")
        if self.multiple < 1 or self.minimum_pixels < 0:
            raise ProstateXferError("The slices' multiple starts at 1 and their minimum_pixels at 0.")
        shares = [share for share in (self.foreground_share, self.anywhere) if share is not None]
        if self.even_cases and self.foreground_share is None:
            raise ProstateXferError("The slices' even_cases goes with a foreground_share: give both.")
        if not all(0 <= share <= 1 for share in shares):
            raise ProstateXferError("The slices' foreground_share and anywhere must be shares from 0 to 1.")


class SliceSamples:
    """Samples of axial slices; `samples[i]` depends on (seed, i) alone.

    Each gives "image" (C, H, W) float32, "labels" (H, W) int64 (0 beyond the image: slices are padded in inference
    too, and there is nothing there), "known" (S,) bool.

    Args:
        prepared: cases; at least one slice of them must count.
        options: see `SliceOptions`.
        seed: of everything that is drawn.
        change: (sample, generator) -> sample, after the crop, before a warp changes intensities (painted lesions).

    Raises:
        ProstateXferError: no slice counts.
    """

    def __init__(
        self,
        prepared: Sequence[PreparedCase],
        options: SliceOptions,
        seed: int,
        *,
        change: SampleChange | None = None,
    ) -> None:
        self._cases, self._options, self._seed, self._change = tuple(prepared), options, seed, change
        self._choice = SliceChoice(
            self._cases,
            foreground_share=options.foreground_share,
            even_cases=options.even_cases,
            minimum_pixels=options.minimum_pixels,
            seed=seed,
        )
        self._size_yx = options.size_yx or tuple(
            math.ceil(max(case.shape_zyx[axis] for case in self._cases) / options.multiple) * options.multiple
            for axis in (1, 2)
        )

    def __len__(self) -> int:
        """Slices that count."""
        return len(self._choice)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        random = generator_of(self._seed, index, "slice")
        number, z = self._choice.of(index)
        case = self._cases[number]
        if self._options.warp is not None:
            generator = torch.Generator().manual_seed(draw_seed(self._seed, index, "warp"))
            centre_yx = slice_centre(case, z, anywhere=self._options.anywhere, random=random)
            return warped_slice(
                case, z, self._options.warp, centre_yx=centre_yx, generator=generator, change=self._change
            )
        size, start = self._size_yx, []
        centre_yx = slice_centre(case, z, anywhere=self._options.anywhere, random=random)
        for centre, side, whole in zip(centre_yx, size, case.shape_zyx[1:], strict=True):
            spare = whole - side
            start.append(min(max(round(centre - side / 2), 0), spare) if spare >= 0 else spare // 2)
        cut = cut_box(case, (z, *start), (1, *size), outside_label=0)
        flat = {"image": cut["image"][:, 0], "labels": cut["labels"][0], "known": cut["known"]}
        if self._change is None:
            return flat
        return self._change(flat, torch.Generator().manual_seed(draw_seed(self._seed, index, "change")))


def slice_centre(case: PreparedCase, z: int, *, anywhere: float, random: np.random.Generator) -> list[float]:
    """Row and column that a crop of slice z is centred on: what is drawn there, its middle, or anywhere."""
    if random.random() < anywhere:
        return [random.uniform(0, n) for n in case.shape_zyx[1:]]
    drawn = np.argwhere(case.labels[z]) if case.known else ()
    return np.mean(drawn, axis=0).tolist() if len(drawn) else [n / 2 for n in case.shape_zyx[1:]]


def warped_slice(
    case: PreparedCase,
    z: int,
    warp: CropOptions,
    *,
    centre_yx: Sequence[float],
    generator: torch.Generator,
    change: SampleChange | None = None,
) -> dict[str, Tensor]:
    """A crop of slice z, turned, scaled, bent, then perhaps changed, then with other intensities.

    Returns:
        "image" (C, size, size) float32, "labels" (size, size) int64, "known" (S,) bool.
    """
    grid = random_crop_grid(case.shape_zyx[1:], centre_yx, warp, generator)
    image = sample(torch.from_numpy(np.array(case.image[:, z])), grid, padding="zeros")
    labels = torch.zeros(grid.shape[:2], dtype=torch.int64)
    if case.known:
        drawn = torch.from_numpy(np.array(case.labels[z]))[None]
        labels = sample(drawn, grid, mode="nearest", padding="zeros")[0].long()
    cut = {"image": image, "labels": labels, "known": known_flags(case)}
    if change is not None:
        cut = change(cut, generator)
    return cut | {"image": torch.cat([random_intensity(channel[None], generator) for channel in cut["image"]])}
