# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's resampling (specification 4.2): splines in 3-D, or slice by slice where the spacing is far from isotropic.

The splines are those of skimage.transform.resize(mode="edge", anti_aliasing=False): scipy's zoom with aligned outer
edges, in float64, clipped to the range of what went in.
"""

from collections.abc import Sequence

import numpy as np

ANISOTROPY = 3
"""Ratio of the largest to the smallest spacing above which slices are resampled one by one."""


def new_shape(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]) -> tuple[int, ...]:
    """Voxels per axis after the change of spacing; halves go to the even number."""
    return tuple(round(old / new * count) for old, new, count in zip(spacing_mm, target_mm, shape, strict=True))


def separate_axis(spacing_mm: Sequence[float], target_mm: Sequence[float], forced: bool | None = None) -> int | None:
    """The axis across which slices are kept apart; None resamples along all axes at once."""
    if forced is False:
        return None
    for spacing in (spacing_mm, target_mm):
        if forced or max(spacing) / min(spacing) > ANISOTROPY:
            coarsest = [axis for axis, mm in enumerate(spacing) if mm == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def resampled(volumes: np.ndarray, shape: tuple[int, int, int], *, order: int, axis: int | None) -> np.ndarray:
    """(C, z, y, x) -> (C, *shape) in the same dtype; the array itself where the shape is right already.

    Args:
        volumes: numbers of any float type; computed in float64.
        shape: wanted.
        order: of the spline.
        axis: of `separate_axis`; along it the nearest slice is taken.
    """
    if volumes.shape[1:] == tuple(shape):
        return volumes
    result = np.empty((len(volumes), *shape), dtype=volumes.dtype)
    for channel, volume in enumerate(volumes):
        wide = volume.astype(np.float64)
        result[channel] = _resize(wide, shape, order) if axis is None else _by_slices(wide, shape, order, axis)
    return result


def _by_slices(volume: np.ndarray, shape: tuple[int, int, int], order: int, axis: int) -> np.ndarray:
    slices = np.moveaxis(volume, axis, 0)
    planar = tuple(side for index, side in enumerate(shape) if index != axis)
    # Every slice is resized once, however often it is taken.
    needed, taken = np.unique(_nearest(len(slices), shape[axis]), return_inverse=True)
    planes = np.stack([_resize(slices[index], planar, order) for index in needed])
    return np.moveaxis(planes[taken], 0, axis)


def _nearest(count: int, wanted: int) -> np.ndarray:
    """Index of the nearest of `count` slices for each of `wanted` ones; outer edges aligned, halves upwards."""
    from scipy.ndimage import map_coordinates

    positions = count / wanted * (np.arange(wanted) + 0.5) - 0.5
    return map_coordinates(np.arange(count, dtype=np.float64), positions[None], order=0, mode="nearest").astype(int)


def _resize(array: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    from scipy.ndimage import zoom

    factors = [1 / (old / new) for old, new in zip(array.shape, shape, strict=True)]
    resized = zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(resized, array.min(), array.max(), out=resized)
