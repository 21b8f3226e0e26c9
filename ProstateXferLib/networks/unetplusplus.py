# SPDX-License-Identifier: Apache-2.0
"""UNet++ and its rivals of the in-domain transfer paper, from segmentation_models_pytorch ("smp").

Source: in-domain transfer across three prostate sites: UnetPlusPlus with an EfficientNet-B3 encoder, ImageNet weights;
compared with Unet, MAnet and DeepLabV3 over EfficientNet-B0 to B3 and ResNet-18, 34 and 50.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.strict import load_strictly

ARCHITECTURES = {"unetplusplus": "UnetPlusPlus", "unet": "Unet", "manet": "MAnet", "deeplabv3": "DeepLabV3"}
ENCODERS = (*(f"efficientnet-b{size}" for size in range(4)), "resnet18", "resnet34", "resnet50")
_CLASSIFIER = ("_fc.", "fc.")
"""The ImageNet classifier's layers, which a segmentation encoder does not have."""


def smp_network(
    architecture: str,
    encoder: str,
    channels: int,
    classes: int,
    *,
    weights: str | None = None,
    weights_file: Path | None = None,
) -> nn.Module:
    """A network (B, channels, H, W) -> logits (B, classes, H, W); H and W multiples of 32.

    Args:
        architecture: "unetplusplus", "unet", "manet" or "deeplabv3".
        encoder: "efficientnet-b0" to "-b3", "resnet18", "resnet34" or "resnet50".
        channels, classes: of the image and of the logits.
        weights: "imagenet" lets smp fetch the encoder's ImageNet weights (or take them from its cache); None draws
            random ones. For one channel the three colours' weights are added up, as if the channel were repeated.
        weights_file: with "imagenet": a .pth or .safetensors file of these weights instead, for machines without
            internet.

    Raises:
        ProstateXferError: an unknown pair, smp missing, weights that cannot be fetched or do not fit.
    """
    if architecture not in ARCHITECTURES or encoder not in ENCODERS:
        raise ProstateXferError(
            f"There is no network '{architecture}' with the encoder '{encoder}': architectures are "
            f"{', '.join(ARCHITECTURES)}; encoders are {', '.join(ENCODERS)}."
        )
    if weights not in (None, "imagenet") or (weights_file is not None and weights is None):
        raise ProstateXferError(
            f"encoder_weights is '{weights}': it must be 'imagenet' (with or without a weights_file) or left out."
        )
    create = _smp_class(architecture)
    if weights_file is None:
        try:
            return create(encoder_name=encoder, encoder_weights=weights, in_channels=channels, classes=classes)
        except OSError as error:  # what huggingface_hub raises without internet is one, too
            raise ProstateXferError(
                f"The ImageNet weights of {encoder} could not be fetched ({type(error).__name__}): connect to the "
                "internet once, or name a file of them with weights_file."
            ) from error
    network = create(encoder_name=encoder, encoder_weights=None, in_channels=3, classes=classes)
    _load_encoder(network.encoder, Path(weights_file), encoder)
    # Only now: the file's first convolution is one for three colours.
    network.encoder.set_in_channels(channels, pretrained=True)
    return network


def _smp_class(architecture: str) -> type[nn.Module]:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ProstateXferError(
            f"The network '{architecture}' needs the package segmentation_models_pytorch, which cannot be loaded "
            f"({error}): install it, e.g. with `pip install segmentation-models-pytorch`."
        ) from error
    return getattr(smp, ARCHITECTURES[architecture])


def _load_encoder(encoder: nn.Module, path: Path, name: str) -> None:
    state = {key: value for key, value in _read(path).items() if not key.startswith(_CLASSIFIER)}
    for key, value in encoder.state_dict().items():  # older files lack these counters, which do nothing here
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)
    load_strictly(encoder, state, what=f"{name} encoder")


def _read(path: Path) -> dict[str, Tensor]:
    """Weights of a .safetensors or .pth file; nothing in it is executed."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ProstateXferError(
            f"The weights file '{path}' cannot be read as weights alone ({type(error).__name__}): check the path and "
            "the file."
        ) from error
    if not isinstance(state, dict):
        raise ProstateXferError(f"The weights file '{path}' holds no state dict: choose another file.")
    return state
