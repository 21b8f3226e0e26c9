# SPDX-License-Identifier: Apache-2.0
"""Names in a state dict of nnU-Net's U-Nets: each tensor once."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.strict import check_tensors

_ALIASES = ((".all_modules.0.", ".conv."), (".all_modules.1.", ".norm."))


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without nnU-Net's second and third names of a tensor.

    Its networks keep every convolution and norm again in a list (`all_modules`), and the whole encoder again in the
    decoder (`decoder.encoder`); a file of theirs holds each under all its names (specification 4.5).

    Raises:
        ProstateXferError: two names of one tensor hold different values.
    """
    check_tensors(state)
    unique: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix("decoder.") if key.startswith("decoder.encoder.") else key
        for alias, own in _ALIASES:
            name = name.replace(alias, own)
        if name in unique and not torch.equal(unique[name], tensor):
            raise ProstateXferError(
                f"Key '{key}' holds other values than '{name}', of which it is another name: get the file again."
            )
        unique.setdefault(name, tensor)
    return unique
