# SPDX-License-Identifier: Apache-2.0
"""Strict loading with an error that a person can act on."""

from collections.abc import Mapping

from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Load `state` into `network`; every key must be there, known and of the right shape.

    Raises:
        ProstateXferError: names the first offending key. The references skip such keys silently, which gives a
            network that runs and is wrong.
    """
    own = network.state_dict()
    for key, tensor in state.items():
        if key not in own:
            raise ProstateXferError(f"Key '{key}' does not belong to a {what} of this size: choose a matching file.")
        if not isinstance(tensor, Tensor) or tensor.shape != own[key].shape:
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ProstateXferError(
                f"Key '{key}' has shape {shape} where this {what} needs {tuple(own[key].shape)}: choose a "
                "matching file."
            )
    for key in own:
        if key not in state:
            raise ProstateXferError(f"Key '{key}' is missing from this {what}: the file is incomplete, get it again.")
    network.load_state_dict(state)
