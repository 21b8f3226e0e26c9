# SPDX-License-Identifier: Apache-2.0
"""The look of a T2-weighted turbo spin echo image: tissue contrast, coil sensitivity, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ProstateXferLib.images.phantom.blocks import Block
from ProstateXferLib.images.phantom.parts import Tissue
from ProstateXferLib.images.phantom.seeds import Stream, generator
from ProstateXferLib.images.phantom.shapes import AXIS_X, AXIS_Y
from ProstateXferLib.images.phantom.texture import WaveField

# Signal in arbitrary units (mean, relative texture, texture band); fat is bright because a TSE without fat saturation
# is the standard prostate sequence (PI-RADS 2.1).
_T2W: dict[Tissue, tuple[float, float, str]] = {
    Tissue.AIR: (0, 0.0, "fine"),
    Tissue.SKIN: (330, 0.05, "fine"),
    Tissue.FAT: (640, 0.06, "septa"),
    Tissue.FASCIA: (430, 0.10, "fine"),
    Tissue.MUSCLE: (165, 0.16, "fibres"),
    Tissue.CORTEX: (35, 0.20, "fine"),
    Tissue.MARROW_FATTY: (520, 0.08, "medium"),
    Tissue.MARROW_RED: (400, 0.12, "medium"),
    Tissue.CARTILAGE: (290, 0.08, "fine"),
    Tissue.DISC: (150, 0.10, "fine"),
    Tissue.ARTERY: (45, 0.10, "fine"),
    Tissue.VEIN: (520, 0.15, "fine"),
    Tissue.PLEXUS: (760, 0.35, "fine"),
    Tissue.BLADDER_WALL: (210, 0.10, "fine"),
    Tissue.URINE: (1230, 0.02, "coarse"),
    Tissue.BOWEL_WALL: (330, 0.15, "fine"),
    Tissue.STOOL: (430, 0.30, "medium"),
    Tissue.GAS: (8, 0.0, "fine"),
    Tissue.SEMINAL_VESICLE: (850, 0.45, "fine"),
    Tissue.CAPSULE: (240, 0.05, "fine"),
    Tissue.PERIPHERAL_ZONE: (920, 0.10, "septa"),
    Tissue.TRANSITION_ZONE: (470, 0.17, "medium"),
    Tissue.STROMA: (210, 0.12, "fine"),
    Tissue.NODULE_BRIGHT: (690, 0.22, "fine"),
    Tissue.NODULE_DARK: (370, 0.14, "fine"),
    Tissue.URETHRA: (700, 0.10, "fine"),
    Tissue.LESION: (285, 0.09, "fine"),
}


@dataclass(frozen=True)
class T2wLook:
    """One scanner, protocol and patient: signal per tissue, coil field and noise. Signal in arbitrary units."""

    signal: dict[Tissue, tuple[float, float, str]]
    noise_sd: float
    bias_strength: float
    bias: WaveField
    surface_gain: float


def t2w_look(patient_seed: int, *, contrast_seed: int | None = None) -> T2wLook:
    """The nominal protocol with small differences between patients; with `contrast_seed`, an unusual one for training.

    A contrast seed changes each tissue by about a fifth, the overall gamma, the noise and the coil field.
    """
    rng = generator(patient_seed, Stream.CONTRAST)
    spread, gamma, noise, bias_strength, gain = 0.04, 1.0, 22.0, 0.10, 0.25
    if contrast_seed is not None:
        rng = generator(patient_seed, Stream.CONTRAST, contrast_seed)
        spread, gamma = 0.16, float(rng.uniform(0.75, 1.3))
        noise, bias_strength = float(rng.uniform(8, 55)), float(rng.uniform(0.05, 0.22))
        gain = float(rng.uniform(0.0, 0.55))
    signal = {}
    for tissue, (mean, texture, band) in _T2W.items():
        varied = 1200 * (mean / 1200) ** gamma * float(np.exp(rng.normal(0, spread)))
        signal[tissue] = (varied if tissue not in (Tissue.AIR, Tissue.GAS) else mean, texture, band)
    bias = WaveField.random(rng, (140.0, 320.0), count=24)
    return T2wLook(signal, noise, bias_strength, bias, gain)


def acquire_t2w(signal: np.ndarray, block: Block, look: T2wLook, rng: np.random.Generator) -> np.ndarray:
    """int16 (z, y, x): the ideal signal times the coil sensitivity, with Rician noise, 0..1500 for most voxels."""
    # A pelvic phased array sees the front and the back of the patient best.
    across = block.linear(AXIS_Y, 0.0) / 110.0
    sideways = block.linear(AXIS_X, 0.0) / 180.0
    field = look.bias.values(block)
    field *= look.bias_strength
    field += (look.surface_gain * np.minimum(across**2, 1.5) - 0.1 * np.minimum(sideways**2, 1.5)).astype(np.float32)
    np.exp(field, out=field)
    field *= signal
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    noise *= look.noise_sd
    field += noise
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    noise *= look.noise_sd
    return np.rint(np.clip(np.hypot(field, noise), 0, 4095)).astype(np.int16)
