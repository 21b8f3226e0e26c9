# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of a network's weights, which validation and the checkpoint show instead of the last."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """Average of the parameters and buffers of `network`; with a decay of 0 it is the network itself and costs nothing.

    A buffer that counts (BatchNorm's number of batches) is copied. The decay grows as (1 + step) / (10 + step) up to
    `decay`, so that a young average forgets its random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._kept = {key: value.detach().clone() for key, value in network.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps (1 after the first)."""
        if not self._decay:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        for key, value in self._network.state_dict().items():
            if value.is_floating_point():
                self._kept[key].lerp_(value, 1 - decay)
            else:
                self._kept[key].copy_(value)

    @contextlib.contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """The network in evaluation mode with the averaged weights; its own come back bit for bit afterwards."""
        own = {key: value.detach().clone() for key, value in self._network.state_dict().items()} if self._kept else {}
        try:
            if self._kept:
                self._network.load_state_dict(self._kept)
            yield self._network.eval()
        finally:
            if own:
                self._network.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors by name."""
        return self._kept

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over averaged tensors of the same names."""
        for key, kept in self._kept.items():
            kept.copy_(state[key])
