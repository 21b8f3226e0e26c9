# SPDX-License-Identifier: Apache-2.0
"""From images to network channels and back: axial order, intensity rule, size; all told by the model card."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.bias_field import corrected_bias_field
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.intensity import normalize
from ProstateXferLib.images.orientation import AxialView, axial_view
from ProstateXferLib.images.resample_torch import resample_channels

_PROBES = 16
"""Points per axis by which it is seen whether two images overlap."""


@dataclass(frozen=True)
class PreparedImage:
    """A study ready for a network, and what is needed to bring the network's output back.

    Attributes:
        channels: (C, z, rows, columns) float32; z runs to Superior, rows to Posterior, columns to Left.
        spacing_zyx: mm between network voxels along those axes.
        view: how the input's array axes were permuted and flipped.
        shape_zyx: shape of the input array in axial order, before the change of size.
    """

    channels: Tensor
    spacing_zyx: tuple[float, float, float]
    view: AxialView
    shape_zyx: tuple[int, int, int]

    @property
    def slices(self) -> Tensor:
        """The first channel's slices (z, rows, columns)."""
        return self.channels[0]

    def restore(self, volume: Tensor, *, mode: str = "bilinear") -> np.ndarray:
        """Network-space volume (..., z, rows, columns) -> array in the input's own axis order and size.

        The outer edges stay aligned (nnU-Net's geometry). Where the network saw the input's own slices nothing is
        interpolated between them. `mode` "bilinear" is linear along every axis, "nearest" takes the nearest voxel.
        """
        leading, depth = volume.shape[:-3], volume.shape[-3]
        if self.channels.shape[1] != self.shape_zyx[0]:
            depth = self.shape_zyx[0]
        shape = (depth, *self.shape_zyx[1:])
        flat = resized(volume.reshape(-1, *volume.shape[-3:]).float(), shape, mode=mode)
        return self.view.invert(flat.view(*leading, *shape).numpy())


def prepare_slices(image: sitk.Image, preprocessing: Preprocessing) -> PreparedImage:
    """`prepare_channels` of a single sequence."""
    return prepare_channels([image], preprocessing)


def prepare_channels(images: Sequence[sitk.Image], preprocessing: Preprocessing) -> PreparedImage:
    """Bring a study into axial order, apply the intensity rules to whole volumes, and change the size.

    Sequences after the first are brought onto the first one's grid through physical space (linear, 0 outside) after
    their own intensity rule. Intensity comes before resizing: clipping must (DGCF, data preparation), and the linear
    part commutes with it.

    Args:
        images: one per input of the card, in its order; the first one gives the grid.
        preprocessing: of the card.

    Raises:
        ProstateXferError: an image that the intensity rule cannot take, or sequences that lie apart.
    """
    first, view = images[0], axial_view(images[0])
    volumes = [
        _on_grid_of(first, image, preprocessing, channel) if channel else _normalized(first, preprocessing, channel)
        for channel, image in enumerate(images)
    ]
    channels = torch.from_numpy(np.ascontiguousarray(np.stack(volumes), dtype=np.float32))
    shape, spacing = tuple(channels.shape[1:]), view.spacing_zyx(first)
    size = network_shape(shape, spacing, preprocessing)
    spacing_zyx = tuple(mm * old / new for mm, old, new in zip(spacing, shape, size, strict=True))
    return PreparedImage(resized(channels, size), spacing_zyx, view, shape)


def _normalized(image: sitk.Image, preprocessing: Preprocessing, channel: int) -> np.ndarray:
    """The image's array in axial order after the bias field's correction and its intensity rule."""
    if preprocessing.n4:
        image = corrected_bias_field(image)
    # Reordered first: the sums behind a mean then run in the same order however the file was stored, and a flipped or
    # transposed copy of an image gets the same result to the last bit.
    return normalize(axial_view(image).apply(sitk.GetArrayViewFromImage(image)), preprocessing.rule_of(channel))


def _on_grid_of(first: sitk.Image, image: sitk.Image, preprocessing: Preprocessing, channel: int) -> np.ndarray:
    """As `_normalized`, but on the grid of the first sequence, in whose axial order it is given."""
    grid, own, volume = Grid.of(first), Grid.of(image), _normalized(image, preprocessing, channel)
    if own.same_as(grid):
        return volume
    if not _overlap(grid, own):
        raise ProstateXferError(
            f"Sequence {channel + 1} lies elsewhere than the first one (they do not overlap): check that both are "
            "of the same patient and examination."
        )
    restored = own.image(axial_view(image).invert(volume))
    resampled = resample_to_grid(restored, grid, interpolation="linear", outside=0.0)
    # A copy: where nothing is reordered `apply` hands on the array itself, and a view would outlive its image.
    return axial_view(first).apply(sitk.GetArrayFromImage(resampled))


def _overlap(grid: Grid, other: Grid) -> bool:
    """Whether some point of a lattice over one of the two lies in the other."""
    return any(bool(there.contains(_lattice_lps(here)).any()) for here, there in ((grid, other), (other, grid)))


def _lattice_lps(grid: Grid) -> np.ndarray:
    axes = [np.linspace(0, size - 1, min(size, _PROBES)) for size in grid.size_xyz]
    return grid.index_to_lps(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


def network_shape(
    shape_zyx: tuple[int, int, int], spacing_zyx: tuple[float, float, float], preprocessing: Preprocessing
) -> tuple[int, int, int]:
    """Planes, rows, columns of what the network sees: the card's fixed size, or nnU-Net's rounding of its spacing."""
    if preprocessing.resize_yx is not None:
        return (shape_zyx[0], *preprocessing.resize_yx)
    target_zyx = preprocessing.spacing_zyx_mm
    if target_zyx is None:
        target_zyx = (spacing_zyx[0], *(preprocessing.spacing_yx_mm or spacing_zyx[1:]))
    return tuple(max(1, round(n * old / new)) for n, old, new in zip(shape_zyx, spacing_zyx, target_zyx, strict=True))


def resized(channels: Tensor, shape_zyx: tuple[int, int, int], *, mode: str = "bilinear") -> Tensor:
    """(C, z, y, x) -> (C, *shape_zyx), outer edges aligned, no antialiasing; slices stay slices where z stays."""
    if tuple(channels.shape[1:]) == tuple(shape_zyx):
        return channels
    if channels.shape[1] == shape_zyx[0]:
        flat = channels.reshape(-1, 1, *channels.shape[2:])
        return resize(flat, shape_zyx[1:], mode=mode).view(len(channels), *shape_zyx)
    return resample_channels(channels, shape_zyx, interpolation="nearest" if mode == "nearest" else "linear")


def resize(slices: Tensor, size_yx: tuple[int, int], *, mode: str = "bilinear") -> Tensor:
    """(N, C, H, W) -> (N, C, *size_yx), half-pixel centres, outer edges aligned, no antialiasing (as references do)."""
    if mode == "nearest":
        return F.interpolate(slices, size=size_yx, mode="nearest-exact")
    return F.interpolate(slices, size=size_yx, mode=mode, align_corners=False)
