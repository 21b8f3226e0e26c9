# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding of DINOv3: axial, separate axes, rotate-half."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

BASE = 100.0
"""RoPE base of every published DINOv3 (Meta's hub configuration)."""


def rope_periods(head_width: int, base: float = BASE) -> Tensor:
    """Periods of the `head_width / 4` frequencies, fp32, shape (head_width / 4,).

    Meta's released files hold these values rounded to bfloat16 once; files that dropped the buffer (Hugging Face,
    timm) were made from those, so they get the rounded values back here. Unrounded periods move the output by about
    1e-2 (reference notes, section 6).
    """
    count = head_width // 4
    exponents = 2 * torch.arange(count, dtype=torch.float32) / (head_width // 2)
    return (base**exponents).to(torch.bfloat16).float()


def rope_tables(
    rows: int,
    columns: int,
    periods: Tensor,
    *,
    dtype: torch.dtype,
    prefix: int,
    moved: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sine and cosine tables for `prefix` unrotated tokens followed by a rows x columns token grid.

    All arithmetic runs in `dtype`, because MedDINOv3 was trained with bfloat16 tables and differs by up to 2.5e-2 from
    fp32 ones. Prefix tokens get sin 0 and cos 1, so that one multiplication serves the whole sequence. In training,
    `moved` changes the coordinates (rows * columns, 2), y and x between -1 and 1 (networks/dinov3_training.py).

    Returns:
        sin, cos: each (prefix + rows * columns, head_width); patch tokens row-major.
    """
    options = {"dtype": dtype, "device": periods.device}
    y = torch.arange(0.5, rows, **options) / rows
    x = torch.arange(0.5, columns, **options) / columns
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)
    coordinates = 2.0 * grid - 1.0
    if moved is not None:
        coordinates = moved(coordinates)
    angles = 2 * math.pi * coordinates[:, :, None] / periods.to(dtype)[None, None, :]
    angles = angles.flatten(1, 2).tile(2)
    sin = torch.cat([torch.zeros(prefix, angles.shape[1], **options), torch.sin(angles)])
    cos = torch.cat([torch.ones(prefix, angles.shape[1], **options), torch.cos(angles)])
    return sin, cos


def rotate(tokens: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate (..., tokens, head_width) in the tables' dtype and return it in its own."""
    turned = tokens.to(sin.dtype)
    first, second = turned.chunk(2, dim=-1)
    return (turned * cos + torch.cat([-second, first], dim=-1) * sin).to(tokens.dtype)
