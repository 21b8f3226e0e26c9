# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on nothing but a seed and a sample's number."""

import zlib

import numpy as np


def generator_of(seed: int, number: int, purpose: str) -> np.random.Generator:
    """The generator for one purpose of one sample; the same in every process, independent of all others.

    Args:
        seed: of the stage.
        number: of the sample, or of the epoch; not negative.
        purpose: keeps draws for different ends apart ("slices", "augmentation", ...).
    """
    return np.random.default_rng([seed % 2**64, number, zlib.crc32(purpose.encode())])


def draw_seed(seed: int, number: int, purpose: str) -> int:
    """A 31-bit seed for code that has a generator of its own (torch, MONAI)."""
    return int(generator_of(seed, number, purpose).integers(2**31))
