# SPDX-License-Identifier: Apache-2.0
"""Decoding a structure of which one piece is kept: from the tokens where it shows, outward until it no longer does.

A gland fills a tenth of a slice, and most of a head's work goes into the rest of the body. What lies apart from the
piece is removed afterwards (`Head.largest_only`), so only tokens that the piece can reach need be decoded.

The heads of several models, whose mean decides, grow together: a token is decoded by all of them or by none. So the
mean is that of the full decode wherever one of them gives `SHOWS` or more, and elsewhere below it either way.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.pipelines.regions import tokens_near

SHOWS = 0.1
"""Probability of the foreground from which on a pixel may belong to the structure or lead to it: below the threshold
that decides, and there is a whole token between the two."""


def shows(logits: Tensor, level: float = SHOWS) -> Tensor:
    """Logits (T, K, ...), the background first -> (T, ...) bool, where the foreground has this probability."""
    return logits[:, 1:].logsumexp(dim=1) - logits[:, 0] >= math.log(level / (1 - level))


def grow(
    decode: Callable[[Tensor], Tensor],
    start: Tensor,
    allowed: Tensor,
    rows_columns: tuple[int, int],
    level: float = SHOWS,
) -> Tensor:
    """Decode from `start` outward until no head shows the structure in a token at the rim.

    Args:
        decode: tokens to decode (T, N) bool -> logits of all heads (heads, T, K, h, w), fp32; in other tokens they say
            background.
        start: tokens (T, N) to begin with; their neighbours are decoded, too.
        allowed: tokens (T, N) that may be decoded.
        rows_columns: of the token grid.
        level: see `SHOWS`.

    Returns:
        Logits (heads, T, K, h, w): decoded is every allowed token that shows the structure and hangs together with
        `start`, and its neighbours.
    """
    done = _with_neighbours(start, rows_columns) & allowed
    logits = decode(done)
    while True:
        showing = torch.stack([tokens_near(shows(own, level), 0) for own in logits]).any(dim=0)
        new = _with_neighbours(done & showing.to(done.device), rows_columns) & allowed & ~done
        if not bool(new.any()):
            return logits
        pixels = new.view(-1, 1, *rows_columns).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        more = decode(new)  # on the CPU from now on, where the GPU's memory ran out meanwhile
        logits = torch.where(pixels.to(more.device), more, logits.to(more.device))
        done |= new


def _with_neighbours(tokens: Tensor, rows_columns: tuple[int, int]) -> Tensor:
    """The tokens and the eight around each."""
    grid = tokens.view(-1, 1, *rows_columns).float()
    return F.max_pool2d(grid, 3, stride=1, padding=1).flatten(1) > 0
