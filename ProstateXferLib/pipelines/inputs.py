# SPDX-License-Identifier: Apache-2.0
"""Matching the images a user has with the sequences a model needs."""

from collections.abc import Mapping

import SimpleITK as sitk

from ProstateXferLib.checkpoints.architectures import ARCHITECTURES
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError


def matched_inputs(image: sitk.Image | Mapping[str, sitk.Image], card: ModelCard) -> dict[str, sitk.Image]:
    """The images a model takes, by sequence name in the order of its channels.

    Args:
        image: a mapping from sequence name to image (more than the model needs may be given), or the one image of a
            model of one sequence.
        card: the model's.

    Raises:
        ProstateXferError: a sequence is missing, or the architecture takes one channel and the card names more.
    """
    given = {card.inputs[0]: image} if isinstance(image, sitk.Image) else dict(image)
    missing = [sequence for sequence in card.inputs if given.get(sequence) is None]
    if missing:
        have = ", ".join(sequence for sequence, value in given.items() if value is not None) or "none"
        raise ProstateXferError(
            f"The model '{card.name}' needs {', '.join(card.inputs)}; {', '.join(missing)} is missing (given: {have}): "
            "choose that image or another model."
        )
    if len(card.inputs) != 1 and not ARCHITECTURES[card.architecture].dense:
        raise ProstateXferError(
            f"The model '{card.name}' takes {len(card.inputs)} sequences; a network of the architecture "
            f"'{card.architecture}' takes one."
        )
    return {sequence: given[sequence] for sequence in card.inputs}


def single_input(image: sitk.Image | Mapping[str, sitk.Image], card: ModelCard) -> sitk.Image:
    """The one image that a model of one sequence takes; raises as `matched_inputs`."""
    return matched_inputs(image, card)[card.inputs[0]]
