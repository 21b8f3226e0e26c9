# SPDX-License-Identifier: Apache-2.0
"""The network of a segmentation stage: built from the recipe, filled from the checkpoint that the stage starts from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.architectures import card_arguments, complete_arguments
from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.networks.mr_dinov3 import ENCODER_PREFIX, MRDINOv3, default_blocks
from ProstateXferLib.networks.patch_decode import PatchDecode
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.training.recipe.schema import Network, Start
from ProstateXferLib.training.recipe.typed import typed
from ProstateXferLib.training.tasks.fresh_encoder import EncoderShape, fresh_encoder
from ProstateXferLib.training.tasks.segmentation_heads import HeadTarget
from ProstateXferLib.training.tasks.start_encoder import encoder_of_start, split_encoder

TAPS = 4
"""Encoder blocks whose tokens a head sees (MedDINOv3: 2, 5, 8, 11 of 12)."""
_PLANNED = ("plain_conv_unet", "residual_encoder_unet")
_ROPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
StartWeights = tuple[ModelCard, Mapping[str, Tensor]] | None


@dataclass(frozen=True)
class _TokenArguments:
    """What a recipe may say about an MR-DINOv3.

    Attributes:
        encoder: sizes of a random start; None where a checkpoint brings the encoder.
        blocks: tapped blocks; None for the usual ones.
    """

    encoder: EncoderShape | None = None
    blocks: tuple[int, ...] | None = None


def segmentation_network(
    wanted: Network,
    targets: Sequence[HeadTarget],
    *,
    channels: int,
    preprocessing: Preprocessing,
    start: StartWeights,
    rule: Start,
) -> tuple[nn.Module, dict[str, Any]]:
    """The network in training mode, and the arguments that its card needs.

    Args:
        wanted: architecture and arguments. An MR-DINOv3 takes `encoder` (width, depth, heads, layer_scale), `blocks`;
            U-Nets without `n_stages` are planned by nnU-Net's rule for the preprocessing's tile and spacing, and then
            take `base_features` and `max_features`; others see networks/dense.py.
        targets: one a head.
        channels: of the image.
        preprocessing: of the card.
        start: card and weights that it starts with, None for random ones.
        rule: what of them is taken; what it drops, and heads that the start does not have, begin at random.

    Raises:
        ProstateXferError: weights or arguments that do not fit.
    """
    if wanted.architecture == "mr_dinov3":
        if channels != 1:
            raise ProstateXferError(f"An MR-DINOv3 sees one sequence, not {channels}: use a dense network for several.")
        return _token_network(typed(_TokenArguments, dict(wanted.arguments), where="network.arguments"), targets, start)
    arguments = _dense_arguments(wanted, targets, channels=channels, preprocessing=preprocessing)
    if start is None:
        return dense_network(wanted.architecture, arguments).train(), card_arguments(arguments)
    card, weights = start
    network = dense_network(wanted.architecture, card_arguments(arguments))  # nothing is fetched to be overwritten
    _load(network, weights, source=card.name, fresh=_left_out(rule))
    return network.train(), card_arguments(arguments)


def _token_network(
    arguments: _TokenArguments, targets: Sequence[HeadTarget], start: StartWeights
) -> tuple[MRDINOv3, dict[str, Any]]:
    if (arguments.encoder is None) == (start is None):
        raise ProstateXferError(
            "An MR-DINOv3's encoder comes from a checkpoint (start.checkpoint) or begins at random "
            "(network.arguments.encoder): give one of them."
        )
    heads_of_start: dict[str, Tensor] = {}
    if start is None:
        encoder = fresh_encoder(arguments.encoder)
    else:
        inside, heads_of_start = split_encoder(*start)
        encoder = encoder_of_start(start[0], inside)
    blocks = arguments.blocks
    if blocks is None and start is not None:
        blocks = start[0].arguments.get("blocks")
    blocks = default_blocks(encoder.depth, min(TAPS, encoder.depth)) if blocks is None else tuple(blocks)
    heads = {target.name: PatchDecode(len(blocks) * encoder.width, target.classes) for target in targets}
    network = MRDINOv3(encoder, heads, blocks)
    if heads_of_start:
        own = {key for key in network.state_dict() if not key.startswith(ENCODER_PREFIX)}
        missing = {key for key in own if key not in heads_of_start}
        _load(network, heads_of_start, source=start[0].name, fresh=lambda key: key in missing or key not in own)
    card = {"eps": encoder.eps, "rope_dtype": _ROPE_NAMES[encoder.rope_dtype], "blocks": list(blocks)}
    return network.train(), card


def _dense_arguments(
    wanted: Network, targets: Sequence[HeadTarget], *, channels: int, preprocessing: Preprocessing
) -> dict[str, Any]:
    arguments, classes = dict(wanted.arguments), sum(target.classes for target in targets)
    if wanted.architecture not in _PLANNED or "n_stages" in arguments:
        return complete_arguments(wanted.architecture, arguments, channels=channels, classes=classes)
    tile, spacing = (
        (preprocessing.tile_zyx, preprocessing.spacing_zyx_mm)
        if preprocessing.tile_zyx is not None
        else (preprocessing.tile_yx, preprocessing.spacing_yx_mm)
    )
    if tile is None:
        raise ProstateXferError("A U-Net without n_stages is planned for the preprocessing's tile: give one of them.")
    sizes = {key: arguments.pop(key) for key in ("base_features", "max_features") if key in arguments}
    planned = planned_unet(
        tile,
        spacing or (1.0,) * len(tile),  # pixels of unknown size are taken as square
        channels=channels,
        classes=classes,
        residual=wanted.architecture == "residual_encoder_unet",
        **sizes,
    )
    return planned | arguments


def _left_out(rule: Start) -> Callable[[str], bool]:
    """Which of the network's names may stay fresh: those that the rule drops or does not take."""

    def fresh(key: str) -> bool:
        return any(part in key for part in rule.drop) or bool(rule.parts and not key.startswith(rule.parts))

    return fresh


def _load(network: nn.Module, weights: Mapping[str, Tensor], *, source: str, fresh: Callable[[str], bool]) -> None:
    """Put the start's weights into the network: each must have its place, each place but fresh ones its weight."""
    own = network.state_dict()
    for key, value in weights.items():
        if key not in own:
            raise ProstateXferError(
                f"The start '{source}' has the weight '{key}', which this network has not: name it in start.drop."
            )
        if value.shape != own[key].shape:
            raise ProstateXferError(
                f"The start '{source}' has '{key}' in the shape {tuple(value.shape)}, this network in "
                f"{tuple(own[key].shape)}: name it in start.drop."
            )
    for key in own:
        if key not in weights and not fresh(key):
            raise ProstateXferError(
                f"The start '{source}' lacks this network's weight '{key}': name it in start.drop to begin it anew."
            )
    network.load_state_dict({**own, **{k: v.to(own[k].dtype) for k, v in weights.items()}})
