# SPDX-License-Identifier: Apache-2.0
"""`Blend`: what overlapping windows say, weighted, added up and divided by the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ProstateXferLib.pipelines.windows import Windows

_ABSENT = -30.0
"""Logit of a structure where no window was run: a probability of 1e-13, and half precision can hold it."""


class Blend:
    """Windows' logits, weighted and added up in the weight's dtype.

    Args:
        windows: how the volume was cut.
        weight: (*window_zyx), of a window's voxels; its dtype is that of the sums.
        classes: channels of the logits.
        device: where the sums lie.
    """

    def __init__(self, windows: Windows, weight: Tensor, *, classes: int, device: torch.device) -> None:
        self._windows, self._weight = windows, weight.to(device)
        self._total = torch.zeros(classes, *windows.padded_zyx, dtype=weight.dtype, device=device)
        # Every plane has the same windows, where none is left out: one plane of weights serves them all.
        self._one_plane = windows.planar and windows.complete
        shape = (1, *windows.padded_zyx[1:]) if self._one_plane else windows.padded_zyx
        self._norm = torch.zeros(shape, dtype=weight.dtype, device=device)

    def add(self, start: tuple[int, int, int], logits: Tensor) -> None:
        """One window's logits (K, *window_zyx), fp32, on any device."""
        place = self._windows.place(start)
        self._total[(slice(None), *place)] += logits.to(self._total.device) * self._weight
        if not self._one_plane or start[0] == 0:
            self._norm[place] += self._weight

    def result(self, background: Tensor) -> Tensor:
        """Logits (K, *shape_zyx) on the CPU, the padding cut away; to be asked for once.

        Args:
            background: (K,) logits of the voxels that no window was run on.
        """
        inner = self._windows.inner
        logits = self._total[(slice(None), *inner)]
        norm = self._norm[(slice(None), *inner[1:]) if self._one_plane else inner]
        logits.div_(norm)
        if not self._windows.complete:
            logits[:, norm == 0] = background.to(logits)[:, None]
        return logits.cpu()


def background_logits(classes: Sequence[int], *, overlapping: bool = False) -> Tensor:
    """Logits (K,) that say background: per head its channels in a row, the background first.

    Args:
        classes: channels of each head.
        overlapping: the channels are regions that may overlap, and none is the background's.
    """
    logits = torch.full((sum(classes),), _ABSENT)
    if not overlapping:
        logits[[sum(classes[:head]) for head in range(len(classes))]] = 0
    return logits
