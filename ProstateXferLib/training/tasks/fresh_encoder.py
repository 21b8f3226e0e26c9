# SPDX-License-Identifier: Apache-2.0
"""A DINOv3 that starts from random weights: for small models, and to see what pretraining is worth."""

from dataclasses import dataclass
from typing import Any

import torch

from ProstateXferLib.networks.dinov3 import DINOv3, LayerScale


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of a DINOv3, and the first value of its LayerScale.

    Meta's 1e-5 needs a long training to open the residual branches; 0.1 to 1 suits short ones.
    """

    width: int
    depth: int
    heads: int
    layer_scale: float = 0.1


def fresh_encoder(shape: EncoderShape, **others: Any) -> DINOv3:
    """A randomly initialised DINOv3 from torch's random state: Meta's initialisation but for LayerScale.

    Args:
        shape: sizes.
        others: further arguments of `DINOv3` (hidden, storage_tokens, ...).
    """
    encoder = DINOv3(shape.width, shape.depth, shape.heads, **others)
    encoder.init_weights()
    for module in encoder.modules():
        if isinstance(module, LayerScale):
            torch.nn.init.constant_(module.gamma, shape.layer_scale)
    return encoder
