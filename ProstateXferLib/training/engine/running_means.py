# SPDX-License-Identifier: Apache-2.0
"""Means of what the steps between two reports gave: sums and counts by name, on the device until they are asked for."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError

_COUNT = "#"


class RunningMeans:
    """Sums stay on the device, since reading a number from a GPU makes it wait."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, float] = {}
        self._norm: Tensor | float = 0.0

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Take in one value of each name."""
        for name, value in values.items():
            value = value.detach().float() if isinstance(value, Tensor) else float(value)
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0.0) + 1

    def show(self, norm: Tensor | float) -> None:
        """Remember the last gradient norm, the same in all processes."""
        self._norm = norm

    def sums(self) -> dict[str, float]:
        """Sums and counts as numbers, to be added up over processes."""
        counts = {f"{_COUNT}{name}": count for name, count in self._counts.items()}
        return {name: float(value) for name, value in self._sums.items()} | counts

    def of_sums(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means by name, and the last gradient norm."""
        means = {n: v / sums[f"{_COUNT}{n}"] for n, v in sums.items() if not n.startswith(_COUNT)}
        return means | {"gradient_norm": float(self._norm)}

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._counts = {}, {}

    def load(self, sums: Mapping[str, float], device: torch.device) -> None:
        """Go on from sums and counts."""
        for name, value in sums.items():
            if name.startswith(_COUNT):
                self._counts[name.removeprefix(_COUNT)] = value
            else:
                self._sums[name] = torch.tensor(value, dtype=torch.float32, device=device)

    def refuse_non_finite(self, step: int, *, but_norm: bool) -> None:
        """Raise ProstateXferError where loss or gradient has become NaN or infinite; fp16's scaler mends gradients."""
        refuse_loss(float(self._sums.get("loss", 0.0)), step)
        if not but_norm:
            refuse_loss(float(self._norm), step, what="gradient")


def refuse_loss(value: float, step: int, what: str = "loss") -> None:
    """Raise ProstateXferError unless the value is a finite number."""
    if not math.isfinite(value):
        raise ProstateXferError(
            f"The training {what} became {value} near step {step}: lower the learning rate, clip gradients "
            "(optimiser.clip_norm), or train in fp32."
        )
