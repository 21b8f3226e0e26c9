# SPDX-License-Identifier: Apache-2.0
"""From images to nnU-Net's network input: axes, crop, normalisation, resampling, in its order (specification 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.nnunet_plan import NnunetPlan
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.pipelines.nnunet.crop import Crop, crop_to_nonzero
from ProstateXferLib.pipelines.nnunet.normalization import normalize_in_place
from ProstateXferLib.pipelines.nnunet.resampling import new_shape, resampled, separate_axis
from ProstateXferLib.progress import Progress


@dataclass(frozen=True)
class NnunetStudy:
    """A study as nnU-Net's network takes it, and what the way back needs. Axes are transposed ones, as in the plan.

    Attributes:
        channels: (C, z, y, x) float32.
        crop: of the study before resampling.
        spacing_mm: before resampling.
        target_mm: after it.
        grid: of the first image.
    """

    channels: np.ndarray
    crop: Crop
    spacing_mm: tuple[float, float, float]
    target_mm: tuple[float, float, float]
    grid: Grid


def prepare_study(images: Sequence[sitk.Image], plan: NnunetPlan, progress: Progress) -> NnunetStudy:
    """Prepare the images of one study, one per channel, in the plan's order.

    nnU-Net takes the array as the file has it and ignores where it lies in space (a reader "WithReorient" aside), and
    so does this. Images on other grids than the first one's, which nnU-Net refuses, are resampled onto it, and told.

    Raises:
        ProstateXferError: as many images as channels are needed; they do not overlap; values that a normalisation
            refuses.
    """
    if len(images) != len(plan.normalization):
        raise ProstateXferError(f"This nnU-Net takes {len(plan.normalization)} images; it was given {len(images)}.")
    grid = Grid.of(images[0])
    on_grid = [image if Grid.of(image).same_as(grid) else _moved(image, grid, progress) for image in images]
    arrays = [_array(image, plan) for image in on_grid]
    whole = np.stack(arrays).astype(np.float32)
    spacing = tuple(float(mm) for mm in _in_order(images[0], plan).GetSpacing()[::-1])
    # A transposed view, cut without copying: a sum in float32 depends on the order in memory, and this is nnU-Net's.
    transposed = whole.transpose(0, *(axis + 1 for axis in plan.transpose_forward))
    spacing = tuple(spacing[axis] for axis in plan.transpose_forward)
    channels, crop = crop_to_nonzero(transposed)
    target = plan.spacing_mm if len(plan.spacing_mm) == 3 else (spacing[0], *plan.spacing_mm)
    for channel, rule in zip(channels, plan.normalization, strict=True):
        normalize_in_place(channel, rule, crop.inside)
    axis = separate_axis(spacing, target, plan.force_separate_z)
    shape = tuple(max(1, side) for side in new_shape(crop.shape, spacing, target))
    prepared = resampled(channels, shape, order=plan.data_order, axis=axis)
    return NnunetStudy(np.ascontiguousarray(prepared), crop, spacing, target, grid)


def _moved(image: sitk.Image, grid: Grid, progress: Progress) -> sitk.Image:
    moved = resample_to_grid(sitk.Cast(image, sitk.sitkFloat32), grid, interpolation="linear", outside=0.0)
    if not sitk.GetArrayViewFromImage(moved).any():
        raise ProstateXferError(
            "One sequence lies elsewhere than the first one (they do not overlap): check that both are of the same "
            "patient and examination."
        )
    progress.warn("An image was resampled onto the grid of the first one, which nnU-Net itself would have refused.")
    return moved


def _in_order(image: sitk.Image, plan: NnunetPlan) -> sitk.Image:
    return sitk.DICOMOrient(image, "RAS") if plan.to_ras else image


def _array(image: sitk.Image, plan: NnunetPlan) -> np.ndarray:
    return sitk.GetArrayFromImage(_in_order(image, plan))
