# SPDX-License-Identifier: Apache-2.0
"""From an image to network slices and back: axial order, intensity rule, in-plane size; all told by the model card."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.images.intensity import normalize
from ProstateXferLib.images.orientation import AxialView, axial_view


@dataclass(frozen=True)
class PreparedSlices:
    """Axial slices ready for a network, and what is needed to bring its output back.

    Attributes:
        slices: (z, rows, columns) float32; z runs to Superior, rows to Posterior, columns to Left.
        spacing_zyx: mm between network pixels along those axes.
        view: how the input's array axes were permuted and flipped.
        shape_zyx: shape of the input array in axial order, before the in-plane change of size.
    """

    slices: Tensor
    spacing_zyx: tuple[float, float, float]
    view: AxialView
    shape_zyx: tuple[int, int, int]

    def restore(self, volume: Tensor, *, mode: str = "bilinear") -> np.ndarray:
        """Network-space volume (..., z, rows, columns) -> array in the input's own axis order and size.

        In-plane the outer edges stay aligned (nnU-Net's geometry); nothing is interpolated between slices.
        """
        leading, depth = volume.shape[:-3], volume.shape[-3]
        flat = volume.reshape(-1, 1, *volume.shape[-2:]).float()
        if flat.shape[-2:] != self.shape_zyx[1:]:
            flat = resize(flat, self.shape_zyx[1:], mode=mode)
        return self.view.invert(flat.view(*leading, depth, *self.shape_zyx[1:]).numpy())


def prepare_slices(image: sitk.Image, preprocessing: Preprocessing) -> PreparedSlices:
    """Bring an image into axial order, apply the intensity rule to the whole volume, and resize its slices.

    Intensity comes before resizing: clipping must (DGCF, data preparation), and the linear part commutes with it.
    """
    view = axial_view(image)
    # Reordered first: the sums behind a mean then run in the same order however the file was stored, and a flipped or
    # transposed copy of an image gets the same result to the last bit.
    volume = normalize(view.apply(sitk.GetArrayViewFromImage(image)), preprocessing.intensity)
    slices = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
    shape, spacing = tuple(slices.shape), view.spacing_zyx(image)
    size = network_size(shape[1:], spacing[1:], preprocessing)
    if size != shape[1:]:
        slices = resize(slices[:, None], size)[:, 0]
    in_plane = tuple(spacing[i + 1] * shape[i + 1] / size[i] for i in range(2))
    return PreparedSlices(slices, (spacing[0], *in_plane), view, shape)


def network_size(
    size_yx: tuple[int, int], spacing_yx: tuple[float, float], preprocessing: Preprocessing
) -> tuple[int, int]:
    """Rows and columns of the network's slice: the card's fixed size, or nnU-Net's rounding of the target spacing."""
    if preprocessing.resize_yx is not None:
        return preprocessing.resize_yx
    if preprocessing.spacing_yx_mm is None:
        return size_yx
    target = preprocessing.spacing_yx_mm
    return tuple(max(1, round(n * old / new)) for n, old, new in zip(size_yx, spacing_yx, target, strict=True))


def resize(slices: Tensor, size_yx: tuple[int, int], *, mode: str = "bilinear") -> Tensor:
    """(N, C, H, W) -> (N, C, *size_yx), half-pixel centres, outer edges aligned, no antialiasing (as references do)."""
    if mode == "nearest":
        return F.interpolate(slices, size=size_yx, mode="nearest-exact")
    return F.interpolate(slices, size=size_yx, mode=mode, align_corners=False)
