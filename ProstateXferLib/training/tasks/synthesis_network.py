# SPDX-License-Identifier: Apache-2.0
"""The network of a synthesis stage: from a recipe's arguments and what the stage starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.checkpoints.loading import ENCODER_PREFIX
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.training.recipe.schema import Group, Stage
from ProstateXferLib.training.recipe.typed import typed
from ProstateXferLib.training.tasks.fresh_encoder import EncoderShape, fresh_encoder
from ProstateXferLib.training.tasks.start_encoder import encoder_of_start, split_encoder


@dataclass(frozen=True)
class DGCFArguments:
    """Arguments of the architecture "dgcf"; see `networks.dgcf.DGCF`.

    Attributes:
        base_channels, fusion, levels, cnn_encoder: of the generator.
        blocks: 0-based encoder blocks of the four levels; None is the usual choice ([2, 5, 8, 11] of a ViT-B).
        encoder: for an encoder without a checkpoint; one that the stage starts from tells its own sizes.
    """

    base_channels: int = 64
    fusion: str = "cnn"
    levels: tuple[bool, bool, bool, bool] = (True, True, True, True)
    cnn_encoder: bool = True
    blocks: tuple[int, ...] | None = None
    encoder: EncoderShape | None = None


def synthesis_network(
    stage: Stage, start: tuple[ModelCard, Mapping[str, Tensor]] | None, preprocessing: Preprocessing
) -> GuidedDGCF:
    """Generator and encoder; what the start does not have begins at random.

    A start may be an encoder's checkpoint (its weights go into the encoder) or another DGCF's (all weights, but for
    what `start.parts` and `start.drop` leave out).

    Raises:
        ProstateXferError: an architecture that makes no CT, no encoder at all, or weights that do not fit.
    """
    if stage.network.architecture != "dgcf":
        raise ProstateXferError(
            f"The stage '{stage.name}' makes CT with the architecture dgcf, not '{stage.network.architecture}'."
        )
    arguments = typed(DGCFArguments, stage.network.arguments, where=f"stage '{stage.name}': network.arguments")
    encoder, generator_weights = _encoder(stage, arguments, start)
    generator = DGCF(
        arguments.base_channels,
        encoder.width,
        fusion=arguments.fusion,
        levels=arguments.levels,
        cnn_encoder=arguments.cnn_encoder,
    )
    network = GuidedDGCF(generator, encoder, encoder_range=preprocessing.encoder_range, blocks=arguments.blocks)
    _load(network, generator_weights, stage)
    return network.to(memory_format=torch.channels_last)  # convolutions run a quarter faster on a CPU


def encoder_is_frozen(encoder: DINOv3, groups: Sequence[Group]) -> bool:
    """Whether the recipe's groups freeze the whole encoder; the first group that matches a name counts."""
    names = [f"network.{ENCODER_PREFIX}{name}" for name, _ in encoder.named_parameters()]
    first = [next((g for g in groups if any(part in name for part in g.match)), None) for name in names]
    return all(group is not None and group.frozen for group in first)


def _encoder(
    stage: Stage, arguments: DGCFArguments, start: tuple[ModelCard, Mapping[str, Tensor]] | None
) -> tuple[DINOv3, dict[str, Tensor]]:
    """The encoder, loaded where the start has one, and the start's other weights."""
    card, state = start if start is not None else (None, {})
    if card is not None and card.architecture not in ("dinov3", "dgcf"):
        raise ProstateXferError(
            f"The stage '{stage.name}' can start from a DINOv3 encoder or a DGCF, not from the {card.architecture} "
            f"model '{card.name}'."
        )
    inside, rest = split_encoder(card, state) if card is not None else ({}, {})
    if inside:
        if arguments.encoder is not None:
            raise ProstateXferError(
                f"The stage '{stage.name}' starts from '{card.name}', whose encoder tells its own sizes: leave "
                "network.arguments.encoder out."
            )
        return encoder_of_start(card, inside), rest
    if arguments.encoder is None:
        raise ProstateXferError(
            f"The stage '{stage.name}' has no encoder: name a DINOv3 checkpoint in start.checkpoint, or sizes in "
            "network.arguments.encoder for one that begins at random."
        )
    return fresh_encoder(arguments.encoder), rest


def _load(network: GuidedDGCF, weights: Mapping[str, Tensor], stage: Stage) -> None:
    """Every name of the start must be the network's; others of the network begin at random only if left out."""
    own = {name: value for name, value in network.state_dict().items() if not name.startswith(ENCODER_PREFIX)}
    for name, value in weights.items():
        if name not in own or value.shape != own[name].shape:
            raise ProstateXferError(
                f"'{name}' of the checkpoint that the stage '{stage.name}' starts from does not fit its network: drop "
                "it in start.drop or change network.arguments."
            )
    missing = [name for name in own if name not in weights]
    if weights and missing and not (stage.start.parts or stage.start.drop):
        raise ProstateXferError(
            f"The checkpoint that the stage '{stage.name}' starts from has no '{missing[0]}': change network.arguments."
        )
    network.load_state_dict(weights, strict=False)
