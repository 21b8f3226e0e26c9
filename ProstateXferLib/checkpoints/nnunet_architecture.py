# SPDX-License-Identifier: Apache-2.0
"""The network that nnU-Net's plans describe, in the words of a model card."""

from collections.abc import Mapping
from typing import Any

from ProstateXferLib.errors import ProstateXferError

_OURS = {"PlainConvUNet": "plain_conv_unet", "ResidualEncoderUNet": "residual_encoder_unet"}


def nnunet_architecture(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Architecture and arguments, without the numbers of channels and classes.

    Raises:
        ProstateXferError: a network that this version does not have.
    """
    if "architecture" in configuration:
        name = str(configuration["architecture"]["network_class_name"]).rsplit(".", 1)[-1]
        arguments = dict(configuration["architecture"]["arch_kwargs"])
        arguments.setdefault("conv_bias", False)  # dynamic_network_architectures' own default
    else:
        name, arguments = str(configuration.get("UNet_class_name")), _before_2_3(configuration)
    if name not in _OURS:
        raise ProstateXferError(f"nnU-Net's network '{name}' is not supported: {' and '.join(_OURS)} are.")
    return _OURS[name], arguments


def _before_2_3(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Plans of the first versions give no `arch_kwargs`, but the numbers that they follow from."""
    kernels, base = configuration["conv_kernel_sizes"], configuration["UNet_base_num_features"]
    most = configuration["unet_max_num_features"]
    residual = configuration["UNet_class_name"] == "ResidualEncoderUNet"
    return {
        "n_stages": len(kernels),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(kernels))],
        "kernel_sizes": kernels,
        "strides": configuration["pool_op_kernel_sizes"],
        "n_blocks_per_stage" if residual else "n_conv_per_stage": configuration["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
    }
