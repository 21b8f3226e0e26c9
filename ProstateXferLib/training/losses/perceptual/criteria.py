# SPDX-License-Identifier: Apache-2.0
"""How two sets of DINOv3 tokens are compared: six criteria by the reference's names.

Source: DGCF, arXiv 2511.12098, public code (reference notes dgcf.md, section 4). Every function takes the tokens of the
synthetic and of the true slices, each (B, N, C) of one encoder level, and gives a scalar.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError

LOW_FREQUENCIES = 0.15
"""Share of the token grid's shorter side: radius of what `high_freq` leaves out around the zero frequency."""


def l1(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference, the paper's."""
    return F.l1_loss(fake, real)


def mse(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(fake, real)


def cosine(fake: Tensor, real: Tensor) -> Tensor:
    """1 - cosine of each token's two vectors, mean over tokens."""
    return 1 - F.cosine_similarity(fake, real, dim=-1).mean()


def gram(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the channels' Gram matrices (B, C, C), each divided by C N."""
    size = fake.shape[1] * fake.shape[2]
    return F.l1_loss(*(tokens.transpose(1, 2) @ tokens / size for tokens in (fake, real)))


def dcsa(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the tokens' directions, times C."""
    return F.l1_loss(*(tokens.shape[-1] * F.normalize(tokens, dim=-1, eps=1e-8) for tokens in (fake, real)))


def high_freq(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of real plus that of imaginary parts of the token map's high frequencies, per channel.

    Raises:
        ProstateXferError: the tokens are not those of a square slice.
    """
    return _of_spectra(_maps(fake), _maps(real))


def reference_cosine(fake: Tensor, real: Tensor) -> Tensor:
    """`cosine` as the reference has it: of rows of C numbers read off the transposed tokens, which mixes both."""
    rows = [tokens.transpose(1, 2).reshape(-1, tokens.shape[-1]) for tokens in (fake, real)]
    return cosine(*rows)


def reference_high_freq(fake: Tensor, real: Tensor) -> Tensor:
    """`high_freq` as the reference has it: the true tokens become maps without having been transposed."""
    maps = _maps(fake)
    return _of_spectra(maps, real.reshape(maps.shape))


def _of_spectra(fake: Tensor, real: Tensor) -> Tensor:
    difference = _spectrum(fake) - _spectrum(real)
    return difference.real.abs().mean() + difference.imag.abs().mean()


def _maps(tokens: Tensor) -> Tensor:
    """(B, N, C) -> (B, C, side, side)."""
    side = math.isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1]:
        raise ProstateXferError("The criterion 'high_freq' needs square slices: change size_yx or the criterion.")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _spectrum(maps: Tensor) -> Tensor:
    """(B, C, side, side) complex, 0 near the zero frequency, which stands in the middle."""
    side = maps.shape[-1]
    steps = torch.arange(side, device=maps.device) - side // 2
    far = (steps[:, None] ** 2 + steps[None] ** 2).sqrt() > LOW_FREQUENCIES * side
    return torch.fft.fftshift(torch.fft.fft2(maps), dim=(-2, -1)) * far


CRITERIA = {"l1": l1, "mse": mse, "cosine": cosine, "gram": gram, "dcsa": dcsa, "high_freq": high_freq}
"""Criteria by the names that recipes use."""
REFERENCE_CRITERIA = {"cosine": reference_cosine, "high_freq": reference_high_freq}
"""Those that the reference's code computes differently from what it names."""
