# SPDX-License-Identifier: Apache-2.0
"""Student and Gram teacher as a self-supervised stage begins: from a checkpoint, or from random weights."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ProstateXferLib.checkpoints.file_format import read_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dino_head import DINOHead
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.dinov3_names import ROPE_DTYPES
from ProstateXferLib.networks.strict import load_strictly
from ProstateXferLib.training.tasks.fresh_encoder import EncoderShape, fresh_encoder
from ProstateXferLib.training.tasks.self_supervision_learner import EncoderWithHeads
from ProstateXferLib.training.tasks.self_supervision_settings import GRAM_TEACHER, HeadSizes, SelfSupervisionSettings
from ProstateXferLib.training.tasks.start_encoder import HEADS, encoder_of_start, split_encoder
from ProstateXferLib.training.tasks.task import StageContext

META_LAYER_SCALE = 1e-5
_NEEDED = ("width", "depth", "heads")
_SIZES = (*_NEEDED, "hidden")
_ARGUMENTS = (*_SIZES, "storage_tokens", "qkv_bias", "channels", "eps", "rope_dtype", "layer_scale_start")


def starting_student(context: StageContext) -> EncoderWithHeads:
    """Encoder and heads; heads that the checkpoint does not hold are drawn anew.

    Raises:
        ProstateXferError: another architecture, unknown arguments, or weights that do not fit.
    """
    network = context.stage.network
    if network.architecture != "dinov3":
        raise ProstateXferError(f"Self-supervision trains a 'dinov3', not '{network.architecture}'.")
    unknown = sorted(set(network.arguments) - set(_ARGUMENTS))
    if unknown:
        raise ProstateXferError(f"A dinov3 has no argument '{unknown[0]}': it takes {', '.join(_ARGUMENTS)}.")
    sizes: HeadSizes = context.stage.settings.heads
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        weights = {} if context.start is None else context.start[1]
        encoder = encoder_from_arguments(network.arguments) if context.start is None else _started(context)
        heads = [
            DINOHead(
                encoder.width,
                sizes.prototypes,
                hidden=sizes.hidden,
                bottleneck=sizes.bottleneck,
                prototype_std=sizes.prototype_std,
            )
            for _ in HEADS
        ]
    for head, name in zip(heads, HEADS, strict=True):
        own = {key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)}
        if own:
            load_strictly(head, own, what=f"{name[:-1]} of the settings' sizes", prefix=name)
    return EncoderWithHeads(encoder.train(), *heads)


def encoder_from_arguments(arguments: Mapping[str, Any]) -> DINOv3:
    """A DINOv3 with Meta's initialisation.

    Args:
        arguments: of the network's constructor, `rope_dtype` as "fp32" or "bf16"; `layer_scale_start` is LayerScale's
            first value, 1e-5 if it is not given.
    """
    options = dict(arguments)
    start, rope = options.pop("layer_scale_start", None), options.get("rope_dtype", "fp32")
    start = META_LAYER_SCALE if start is None else start
    missing = [name for name in _NEEDED if name not in options]
    if missing or rope not in ROPE_DTYPES:
        raise ProstateXferError(
            f"A dinov3 without a starting checkpoint needs the argument '{missing[0]}'."
            if missing
            else f"A dinov3's rope_dtype is one of {', '.join(ROPE_DTYPES)}, not '{rope}'."
        )
    shape = EncoderShape(*(options.pop(name) for name in _NEEDED), layer_scale=start)
    return fresh_encoder(shape, **options | {"rope_dtype": ROPE_DTYPES[rope]})


def gram_teacher(context: StageContext, backbone: DINOv3) -> DINOv3 | None:
    """The encoder whose similarities are kept: the settings' checkpoint, or a copy of the one the stage starts with.

    Raises:
        ProstateXferError: the checkpoint holds no DINOv3 encoder, or one that cannot be refreshed.
    """
    settings: SelfSupervisionSettings = context.stage.settings
    if settings.gram is None:
        return None
    if not settings.gram.teacher:
        return copy.deepcopy(backbone)
    card, weights = read_checkpoint(context.checkpoints[f"settings.{GRAM_TEACHER}"])
    if card.architecture != "dinov3":
        raise ProstateXferError(f"The Gram teacher '{settings.gram.teacher}' is no DINOv3 encoder: name another.")
    network = encoder_of_start(card, split_encoder(card, weights)[0]).eval()
    if settings.gram.refreshes and network.state_dict().keys() != backbone.state_dict().keys():
        raise ProstateXferError("A Gram teacher of another architecture cannot be refreshed: leave refreshes at 0.")
    return network


def _started(context: StageContext) -> DINOv3:
    card, weights = context.start
    arguments = context.stage.network.arguments
    # The recipe's settings count before the card's: MedDINOv3 went on from Meta's weights with others of its own.
    asked = {name: arguments[name] for name in ("eps", "rope_dtype") if name in arguments}
    encoder = encoder_of_start(card, split_encoder(card, weights)[0], **asked)
    for name in _SIZES:
        asked = arguments.get(name, getattr(encoder, name))
        if asked != getattr(encoder, name):
            raise ProstateXferError(
                f"The recipe's network has {name} {asked}, but '{card.name}' has {getattr(encoder, name)}: correct one."
            )
    return encoder
