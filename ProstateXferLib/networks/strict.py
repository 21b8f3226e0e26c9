# SPDX-License-Identifier: Apache-2.0
"""Strict loading with an error that a person can act on."""

from collections.abc import Mapping

from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError


def check_tensors(state: Mapping) -> None:
    """Refuse a state dict with anything but tensors under text keys (a file with more than weights in it)."""
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ProstateXferError(f"Key '{key}' holds a {type(value).__name__}, not a tensor: choose another file.")


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, what: str, prefix: str = "") -> None:
    """Load `state` into `network`; every key must be there, known and of the right shape.

    Args:
        network: what is loaded into.
        state: its weights.
        what: the network's kind, for the error's sentence.
        prefix: what stands before these keys in the file, likewise.

    Raises:
        ProstateXferError: names the first offending key. The references skip such keys silently, which gives a
            network that runs and is wrong.
    """
    check_tensors(state)
    own = network.state_dict()
    for key, tensor in state.items():
        if key not in own:
            raise ProstateXferError(
                f"Key '{prefix}{key}' does not belong to a {what} of this size: choose a matching file."
            )
        if tensor.shape != own[key].shape:
            raise ProstateXferError(
                f"Key '{prefix}{key}' has shape {tuple(tensor.shape)} where this {what} needs {tuple(own[key].shape)}: "
                "choose a matching file."
            )
    for key in own:
        if key not in state:
            raise ProstateXferError(
                f"Key '{prefix}{key}' is missing from this {what}: the file is incomplete, get it again."
            )
    network.load_state_dict(state)
