# SPDX-License-Identifier: Apache-2.0
"""A 3 x 3 convolution of a bilinearly upsampled map, without ever making that map.

DGCF upsamples a 16 x 16 token map to as much as 256 x 256 and then convolves it: 4.8 GFLOP per level at c = 64. Both
steps are linear and separable per kernel tap, so the taps are applied on the small map (nine 1 x 1 convolutions) and
upsampling, shifting and summing become two small matrix products: 0.4 GFLOP for the largest level, the same numbers.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def conv_of_upsampled(low: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> Tensor:
    """conv2d(interpolate(low, size, bilinear), weight, bias, padding=1) for weights (O, C, 3, 3).

    Args:
        low: (B, C, h, w).
        weight: (O, C, 3, 3).
        bias: (O,) or None.
        size: H, W after upsampling (half-pixel centres, as align_corners=False).

    Returns:
        (B, O, H, W), channels last in memory.
    """
    batch, channels, rows, columns = low.shape
    outputs = weight.shape[0]
    taps = weight.permute(2, 3, 0, 1).reshape(9 * outputs, channels)
    small = F.linear(low.permute(0, 2, 3, 1), taps).view(batch, rows, columns, 3, 3, outputs)
    across = shifted_interpolation(columns, size[1], low.dtype, low.device)  # (W, 3 w)
    down = shifted_interpolation(rows, size[0], low.dtype, low.device)  # (H, 3 h)
    # For every kernel row: sum over columns and kernel columns -> (B, 3, h, W, O)
    wide = across @ small.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, rows, 3 * columns, outputs)
    full = down @ wide.reshape(batch, 3 * rows, size[1] * outputs)
    full = full.view(batch, *size, outputs)
    return (full if bias is None else full + bias).permute(0, 3, 1, 2)


@lru_cache(maxsize=32)
def shifted_interpolation(small: int, large: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(large, 3 * small): bilinear interpolation read one sample before, at, and one sample after each position.

    Beyond the ends stands the convolution's zero padding. Upsampling by 2, 4, 8 or 16 gives multiples of 1/32, which
    bfloat16 holds exactly.
    """
    with torch.inference_mode(False), torch.no_grad():
        identity = torch.eye(small, dtype=torch.float32)[None]
        plain = F.interpolate(identity, size=large, mode="linear", align_corners=False)[0].T  # (large, small)
        padded = F.pad(plain, (0, 0, 1, 1))
        shifts = [padded[tap : tap + large] for tap in range(3)]
        return torch.cat(shifts, dim=1).to(device=device, dtype=dtype).contiguous()
