# SPDX-License-Identifier: Apache-2.0
"""The DINOv3 in a checkpoint that a stage starts from: an encoder alone, with self-supervised heads, or a model's."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.loading import ENCODER_PREFIX
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import DINOv3

BACKBONE, HEADS = "backbone.", ("dino_head.", "ibot_head.")
"""Prefixes of a self-supervised stage that keeps its heads."""


def split_encoder(card: ModelCard, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The encoder's weights under its own names, and a model's others (no self-supervised heads), fp32; may be {}.

    Args:
        card: says the architecture: of a "dinov3" all weights are the encoder's, but for heads.
        weights: all, or what a recipe's `parts` and `drop` left of them.
    """
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    if card.architecture != "dinov3":
        inside = {k.removeprefix(ENCODER_PREFIX): v for k, v in weights.items() if k.startswith(ENCODER_PREFIX)}
        return inside, {k: v for k, v in weights.items() if not k.startswith(ENCODER_PREFIX)}
    return {k.removeprefix(BACKBONE): v for k, v in weights.items() if not k.startswith(HEADS)}, {}


def encoder_of_start(card: ModelCard, weights: Mapping[str, Tensor], **settings: Any) -> DINOv3:
    """The encoder from its weights (`split_encoder`), with the card's eps and RoPE dtype unless `settings` has others.

    Raises:
        ProstateXferError: there are none, or they are no DINOv3's.
    """
    if not weights:
        raise ProstateXferError(f"'{card.name}' ({card.architecture}) holds no DINOv3 encoder to start from.")
    return DINOv3.from_state_dict(weights, **{key: card.arguments.get(key) for key in ("eps", "rope_dtype")} | settings)
