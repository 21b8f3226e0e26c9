# SPDX-License-Identifier: Apache-2.0
"""The look of a planning CT: Hounsfield units of the tissues and quantum noise."""

from __future__ import annotations

import numpy as np

from ProstateXferLib.images.phantom.parts import Tissue

# HU (mean, standard deviation of the texture, texture band) at 120 kV without contrast agent.
CT_HU: dict[Tissue, tuple[float, float, str]] = {
    Tissue.AIR: (-1000, 0, "fine"),
    Tissue.SKIN: (20, 5, "fine"),
    Tissue.FAT: (-105, 5, "septa"),
    Tissue.FASCIA: (-35, 8, "fine"),
    Tissue.MUSCLE: (56, 6, "fibres"),
    Tissue.CORTEX: (950, 90, "medium"),
    Tissue.MARROW_FATTY: (240, 35, "fine"),
    Tissue.MARROW_RED: (160, 38, "fine"),
    Tissue.CARTILAGE: (85, 10, "fine"),
    Tissue.DISC: (110, 15, "fine"),
    Tissue.ARTERY: (48, 3, "fine"),
    Tissue.VEIN: (45, 3, "fine"),
    Tissue.PLEXUS: (15, 10, "fine"),
    Tissue.BLADDER_WALL: (35, 4, "fine"),
    Tissue.URINE: (8, 2, "coarse"),
    Tissue.BOWEL_WALL: (40, 5, "fine"),
    Tissue.STOOL: (25, 45, "medium"),
    Tissue.GAS: (-940, 15, "fine"),
    Tissue.SEMINAL_VESICLE: (24, 6, "fine"),
    Tissue.CAPSULE: (42, 4, "fine"),
    Tissue.PERIPHERAL_ZONE: (37, 4, "fine"),
    Tissue.TRANSITION_ZONE: (43, 5, "medium"),
    Tissue.STROMA: (46, 4, "fine"),
    Tissue.NODULE_BRIGHT: (38, 6, "fine"),
    Tissue.NODULE_DARK: (46, 6, "fine"),
    Tissue.URETHRA: (30, 4, "fine"),
    Tissue.LESION: (42, 4, "fine"),
}


def acquire_ct(hu: np.ndarray, rng: np.random.Generator, *, noise_hu: float = 9.0) -> np.ndarray:
    """int16 HU (z, y, x): the ideal HU with noise that is correlated in the slice, as a soft kernel leaves it."""
    noise = correlated_noise(hu.shape, rng, sigma_yx=(0.7, 0.7))
    noise *= noise_hu
    noise += hu
    return np.rint(np.clip(noise, -1024, 3071)).astype(np.int16)


def correlated_noise(
    shape_zyx: tuple[int, int, int], rng: np.random.Generator, *, sigma_yx: tuple[float, float]
) -> np.ndarray:
    """float32 (z, y, x) Gaussian noise of mean 0 and standard deviation 1, smoothed within slices; sigma in voxels."""
    from scipy.ndimage import correlate1d

    noise = rng.standard_normal(shape_zyx, dtype=np.float32)
    for axis, sigma in zip((1, 2), sigma_yx, strict=True):
        reach = max(1, int(2.5 * sigma + 0.5))
        if shape_zyx[axis] <= 2 * reach:
            continue  # too thin to smooth: wrapping around would count the same voxels twice
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
        # A unit sum of squares keeps the standard deviation of independent voxels at 1.
        noise = correlate1d(noise, kernel / np.sqrt((kernel**2).sum()), axis=axis, mode="wrap")
    return noise
