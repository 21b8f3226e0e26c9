# SPDX-License-Identifier: Apache-2.0
"""Whether a model card's preprocessing, inputs and heads fit the network it names."""

from typing import TYPE_CHECKING

from ProstateXferLib.checkpoints.architectures import (
    ARCHITECTURES,
    STARTING_ARGUMENTS,
    dimensions,
    tile_multiple,
)
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from ProstateXferLib.checkpoints.card import ModelCard

_ALSO = {"mr_dinov3": ("mirror_axes",)}
"""What an architecture that is not dense follows of a dense one's preprocessing."""


def check_fit(card: "ModelCard") -> None:
    """Refuse a card that its network could not follow.

    Raises:
        ProstateXferError: naming the field that does not fit.
    """
    rules = len(card.preprocessing.further_intensities)
    if rules not in (0, len(card.inputs) - 1):
        raise ProstateXferError(
            f"Model card '{card.name}': {rules} further_intensities for {len(card.inputs)} inputs; give one for each "
            "after the first, or none."
        )
    _check_tile(card)
    _check_nnunet(card)
    if ARCHITECTURES[card.architecture].dense:
        _check_dense(card)
        return
    useless = [name for name in card.preprocessing.dense_alone if name not in _ALSO.get(card.architecture, ())]
    if useless:
        raise ProstateXferError(
            f"Model card '{card.name}': the preprocessing's {useless[0]} means nothing for the architecture "
            f"'{card.architecture}'."
        )


def _check_tile(card: "ModelCard") -> None:
    """A tile of the right number of axes, its sides multiples of what the network needs."""
    axes = dimensions(card.architecture, card.arguments)
    wrong, name = ("tile_yx", "tile_zyx") if axes == 3 else ("tile_zyx", "tile_yx")
    if getattr(card.preprocessing, wrong) is not None:
        raise ProstateXferError(
            f"Model card '{card.name}': its network runs over {axes} axes and takes a {name}, not a {wrong}."
        )
    tile = getattr(card.preprocessing, name)
    multiple = tile_multiple(card.architecture, card.arguments)
    if tile is not None and any(side % step for side, step in zip(tile, multiple, strict=True)):
        told = multiple[0] if len(set(multiple)) == 1 else multiple
        raise ProstateXferError(f"The preprocessing's {name} must be multiples of {told} pixels; it is {tile}.")
    if tile is not None and tile == multiple and card.architecture not in ("mr_dinov3", "smp", "dgcf"):
        raise ProstateXferError(
            f"The preprocessing's {name} {tile} leaves a single pixel in the deepest stage, which an instance norm "
            "cannot take: double one side."
        )


def _check_nnunet(card: "ModelCard") -> None:
    """A patch that the network can take, a normalisation for every input, and regions nowhere else."""
    plan = card.preprocessing.nnunet
    if plan is None:
        if any(head.overlapping for head in card.heads):
            raise ProstateXferError(
                f"Model card '{card.name}': overlapping regions need an nnU-Net preprocessing; give each a head."
            )
        return
    multiple = tile_multiple(card.architecture, card.arguments)
    if len(multiple) != len(plan.patch) or any(side % step for side, step in zip(plan.patch, multiple, strict=True)):
        raise ProstateXferError(
            f"Model card '{card.name}': nnU-Net's patch {plan.patch} must be {len(multiple)} multiples of {multiple}."
        )
    if len(plan.normalization) != len(card.inputs) or len(card.heads) != 1:
        raise ProstateXferError(
            f"Model card '{card.name}': an nnU-Net has one head, and a normalisation for each of its "
            f"{len(card.inputs)} inputs."
        )


def _check_dense(card: "ModelCard") -> None:
    """Channels as inputs and heads say, and nothing about where training began."""
    kind = ARCHITECTURES[card.architecture]
    begun = [key for key in STARTING_ARGUMENTS if key in card.arguments]
    if begun:
        raise ProstateXferError(
            f"Model card '{card.name}': '{begun[0]}' belongs to a recipe, not to a card; leave it out."
        )
    needed = {
        kind.channels_key: (len(card.inputs), "inputs"),
        kind.classes_key: (sum(head.classes for head in card.heads), "heads with a background each"),
    }
    for key, (count, what) in needed.items():
        if card.arguments.get(key) != count:
            raise ProstateXferError(
                f"Model card '{card.name}': its network's {key} is {card.arguments.get(key)}, but the {what} make "
                f"{count}."
            )
