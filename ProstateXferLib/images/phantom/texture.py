# SPDX-License-Identifier: Apache-2.0
"""Tissue texture that lives in the patient, not on the voxels: a sum of random plane waves in LPS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.images.phantom.blocks import Block


@dataclass(frozen=True)
class WaveField:
    """Band-limited random field with mean 0 and standard deviation 1, the same at a point whatever the grid.

    `waves_per_mm` (n, 3) are angular wave vectors (rad/mm, LPS), `phases` (n,) radians.
    """

    waves_per_mm: np.ndarray
    phases: np.ndarray

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        wavelengths_mm: tuple[float, float],
        *,
        count: int = 96,
        stretch_lps: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> WaveField:
        """Directions at random, wavelengths log-uniform in the band; `stretch_lps` lengthens them along x, y, z."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = np.exp(rng.uniform(*np.log(wavelengths_mm), size=(count, 1)))
        waves = 2 * math.pi / lengths * directions / np.asarray(stretch_lps)
        return cls(waves, rng.uniform(0, 2 * math.pi, size=count))

    def values(self, block: Block) -> np.ndarray:
        """float32 (z, y, x) at the voxel centres of the block.

        cos(k . p + phase) of an affine p is a product of one complex exponential per index axis, so the whole sum is
        one matrix product: (z y, waves) times (waves, x).
        """
        slopes_zyx, first = block.index_coefficients(self.waves_per_mm)
        depth, height, width = block.shape_zyx
        z_terms, y_terms, x_terms = (
            np.exp(1j * slopes[None, :] * np.arange(size)[:, None]).astype(np.complex64)
            for slopes, size in zip(slopes_zyx.T, (depth, height, width), strict=True)
        )
        start = np.exp(1j * (first + self.phases)).astype(np.complex64)
        rows = (z_terms[:, None, :] * (y_terms * start)[None, :, :]).reshape(depth * height, -1)
        real_rows = np.concatenate([rows.real, -rows.imag], axis=1)
        real_columns = np.concatenate([x_terms.real, x_terms.imag], axis=1).T
        field = real_rows @ real_columns
        field *= np.float32(math.sqrt(2 / len(self.phases)))
        return field.reshape(depth, height, width)
