# SPDX-License-Identifier: Apache-2.0
"""Dense networks by the name their architecture has in recipes and model cards."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.plain_conv_unet import PlainConvUNet
from ProstateXferLib.networks.residual_encoder_unet import ResidualEncoderUNet
from ProstateXferLib.networks.strict import load_strictly
from ProstateXferLib.networks.swin_unetr import swin_unetr
from ProstateXferLib.networks.unet_names import without_aliases
from ProstateXferLib.networks.unetplusplus import smp_network


def dense_network(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A fresh network in training mode: random weights, or the pretrained ones that its arguments name.

    Args:
        architecture: "plain_conv_unet", "residual_encoder_unet", "smp" or "swin_unetr".
        arguments: what the network's own file says; channels and classes among them
            (`checkpoints.architectures.complete_arguments` adds them).

    Raises:
        ProstateXferError: an unknown architecture, or arguments that it does not take.
    """
    build = _BUILDERS.get(architecture)
    if build is None:
        raise ProstateXferError(f"'{architecture}' is no dense network: use one of {', '.join(_BUILDERS)}.")
    try:
        return build(dict(arguments))
    except TypeError as error:
        raise ProstateXferError(f"The arguments of the {architecture} do not fit ({error}): correct them.") from error


def load_dense_network(architecture: str, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights, in evaluation mode; loading is strict, nothing is fetched.

    Raises:
        ProstateXferError: naming the first key that is missing, unknown or of the wrong shape.
    """
    network = dense_network(architecture, arguments)
    unique = without_aliases(state) if architecture in _UNETS else state
    load_strictly(network, unique, what=architecture)
    return network.eval()


def _smp(arguments: dict[str, Any]) -> nn.Module:
    weights = {"weights": arguments.pop("encoder_weights", None), "weights_file": arguments.pop("weights_file", None)}
    return smp_network(**arguments, **weights)


_UNETS = {"plain_conv_unet": PlainConvUNet.from_arguments, "residual_encoder_unet": ResidualEncoderUNet.from_arguments}
_BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    **_UNETS,
    "smp": _smp,
    "swin_unetr": lambda arguments: swin_unetr(**arguments),
}
