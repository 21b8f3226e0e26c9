# SPDX-License-Identifier: Apache-2.0
"""What a recipe may say about the perceptual loss."""

import math
from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.losses.perceptual.criteria import CRITERIA, REFERENCE_CRITERIA

STOCHASTIC_ROPE, TOKEN_ORDER = QUIRKS = ("stochastic_rope", "token_order")


@dataclass(frozen=True)
class PerceptualOptions:
    """DGCF's multi-level DINOv3 perceptual loss (reference notes dgcf.md, section 4).

    Attributes:
        weight: factor beside the L1 loss, 1 in the reference.
        criterion: how tokens are compared: "l1" (the paper's), "mse", "cosine", "gram", "dcsa", "high_freq".
        levels: which of the four encoder levels count, shallow first; the loss is their mean.
        multi_resolution: compare at image scales 1, 1/2 and 1/4 and add the three up.
        encoder: checkpoint of the DINOv3 that looks, named like `start.checkpoint`; None is the network's own, which
            must then be frozen.
        reference_quirks: "stochastic_rope": the reference leaves its encoder in training mode, so that every block
            rescales the position of the patches by a random factor, another for either slice (the loss of a slice with
            itself is above zero); "token_order": its "cosine" mixes tokens and channels, its "high_freq" those of the
            true slice.
    """

    weight: float = 1.0
    criterion: str = "l1"
    levels: tuple[bool, bool, bool, bool] = (True, True, True, True)
    multi_resolution: bool = False
    encoder: str | None = None
    reference_quirks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ProstateXferError(f"The perceptual criterion '{self.criterion}' is none of {', '.join(CRITERIA)}.")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ProstateXferError(
                f"The perceptual loss has weight {self.weight}: give one above zero, or leave it out."
            )
        if len(self.levels) != 4 or not any(self.levels):
            raise ProstateXferError("The perceptual loss needs four levels, at least one of them true.")
        unknown = set(self.reference_quirks) - set(QUIRKS)
        if unknown:
            raise ProstateXferError(
                f"The quirk '{min(unknown)}' of the perceptual loss is none of {', '.join(QUIRKS)}."
            )
        if TOKEN_ORDER in self.reference_quirks and self.criterion not in REFERENCE_CRITERIA:
            raise ProstateXferError(f"The quirk '{TOKEN_ORDER}' belongs to {' and '.join(REFERENCE_CRITERIA)} alone.")
