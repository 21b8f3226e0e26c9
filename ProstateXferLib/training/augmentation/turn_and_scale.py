# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's spatial change: rotation and scaling, each with its own probability, read from a larger patch at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ANISOTROPY = 3.0
"""Largest over first side of a 3-D patch from which on it is changed in its slices only ("dummy 2-D", nnU-Net)."""
_ELONGATED = 1.5
_FULL_TURN, _IN_PLANE, _IN_SPACE = math.pi, math.radians(15), math.radians(30)


@dataclass(frozen=True)
class TurnAndScale:
    """Rotates and scales a patch about its centre and keeps the middle.

    Attributes:
        patch_size: voxels along each axis that are left, 2-D or 3-D; the ranges of rotation follow from it.
        rotation, scaling: share of the samples that are rotated, scaled; the others are not interpolated.
        scale: (low, high) of the factor; above 1 makes things smaller.
        one_scale: the same factor along all axes, else one each.
        rotation_per_axis: chance of each axis to be turned about in a rotated patch; in a plane there is one.
        nearest: nearest neighbour for the image, too, instead of linear; labels always are.
    """

    patch_size: tuple[int, ...]
    rotation: float = 0.2
    scaling: float = 0.2
    scale: tuple[float, float] = (0.7, 1.4)
    one_scale: bool = True
    rotation_per_axis: float = 1.0
    nearest: bool = False

    @property
    def in_slices(self) -> bool:
        """Whether a 3-D patch is so flat that nothing happens across its slices."""
        return len(self.patch_size) == 3 and max(self.patch_size) / self.patch_size[0] > ANISOTROPY

    @property
    def largest_angle(self) -> float:
        """Half-range of the rotation, radians (nnU-Net: 30 degrees in space; in a plane 180, long patches 15)."""
        if self.in_slices:
            return _FULL_TURN
        if len(self.patch_size) == 3:
            return _IN_SPACE
        return _IN_PLANE if max(self.patch_size) / min(self.patch_size) > _ELONGATED else _FULL_TURN

    def source_size(self, smallest_scale: float) -> tuple[int, ...]:
        """Voxels to cut, so that most of a turned patch is still image: nnU-Net's "initial patch size"."""
        angle = min(self.largest_angle, math.pi / 2)
        size = np.array(self.patch_size, dtype=np.float64)
        # The directions of nnU-Net's rotations: each axis grows at the cost of the next.
        planes = [(0, 1)] if len(size) == 2 else [(1, 2)] if self.in_slices else [(0, 1), (1, 2), (2, 0)]
        largest = size.copy()
        for a, b in planes:
            turned = size.copy()
            turned[a] = math.cos(angle) * size[a] + math.sin(angle) * size[b]
            turned[b] = abs(math.cos(angle) * size[b] - math.sin(angle) * size[a])
            largest = np.maximum(largest, turned)
        source = [int(side) for side in largest / smallest_scale]
        return (self.patch_size[0], *source[1:]) if self.in_slices else tuple(source)

    def __call__(self, image: Tensor, labels: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        """Image (C, ...) and labels (...) of any size -> of `patch_size`; beyond the given image both are 0."""
        axes = (1, 2) if self.in_slices else tuple(range(len(self.patch_size)))
        rotated, scaled = random.uniform() < self.rotation, random.uniform() < self.scaling
        angles, factors = self._draw(len(axes), random)
        if not (rotated or scaled):
            return middle(image, self.patch_size), middle(labels, self.patch_size)
        matrix = np.eye(len(self.patch_size))
        turn = _rotation(angles) if rotated else np.eye(len(axes))
        matrix[np.ix_(axes, axes)] = turn @ np.diag(factors if scaled else np.ones(len(axes)))
        grid = _grid(self.patch_size, labels.shape, matrix)
        read = {"padding_mode": "zeros", "align_corners": False}
        image_mode = "nearest" if self.nearest else "bilinear"
        image = F.grid_sample(image[None], grid, mode=image_mode, **read)[0]
        labels = F.grid_sample(labels[None, None].float(), grid, mode="nearest", **read)[0, 0].long()
        return image, labels

    def _draw(self, axes: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Angles (one in a plane, three in space) and factors; drawn always: later draws do not depend on it."""
        turns = 1 if axes == 2 else 3
        angles = random.uniform(-self.largest_angle, self.largest_angle, turns)
        if self.rotation_per_axis < 1:
            angles *= random.uniform(size=turns) < self.rotation_per_axis
        factors = random.uniform(*self.scale, size=axes)
        return angles, np.full(axes, factors[0]) if self.one_scale else factors


def middle(array: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of the last axes; where the array is smaller it is padded with 0."""
    lead = array.ndim - len(size)
    for axis, side in enumerate(size, start=lead):
        spare = array.shape[axis] - side
        if spare >= 0:
            array = array.narrow(axis, spare // 2, side)
        else:
            pad = [0, 0] * (array.ndim - axis - 1) + [-spare // 2, -spare - (-spare // 2)]
            array = F.pad(array, pad)
    return array.contiguous()


def _rotation(angles: np.ndarray) -> np.ndarray:
    """(2, 2) for one angle, (3, 3) for angles about each axis in turn."""
    if len(angles) == 1:
        c, s = math.cos(angles[0]), math.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[[a, b, a, b], [a, b, b, a]] = (math.cos(angle), math.cos(angle), -math.sin(angle), math.sin(angle))
        matrix = turn @ matrix
    return matrix


def _grid(size: Sequence[int], source: Sequence[int], matrix: np.ndarray) -> Tensor:
    """Positions (1, *size, dims) in grid_sample's (x, y, z) convention; `matrix` is in voxels about the middle."""
    axes = [torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ torch.from_numpy(matrix.T)
    # From the middle, in voxels, to -1..1 between the outer edges.
    relative = voxels * 2 / torch.tensor(list(source), dtype=torch.float64)
    return relative.flip(-1).float()[None]
