# SPDX-License-Identifier: Apache-2.0
"""Matching the images a user has with the sequences a model needs."""

from collections.abc import Mapping

import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError


def single_input(image: sitk.Image | Mapping[str, sitk.Image], card: ModelCard) -> sitk.Image:
    """The one image that a single-channel model takes.

    Raises:
        ProstateXferError: the sequence is missing, or the model needs more sequences than were given.
    """
    given = {card.inputs[0]: image} if isinstance(image, sitk.Image) else dict(image)
    missing = [sequence for sequence in card.inputs if given.get(sequence) is None]
    if missing:
        have = ", ".join(sequence for sequence, value in given.items() if value is not None) or "none"
        raise ProstateXferError(
            f"The model '{card.name}' needs {', '.join(card.inputs)}; {', '.join(missing)} is missing (given: {have}): "
            "choose that image or another model."
        )
    if len(card.inputs) != 1:
        raise ProstateXferError(
            f"The model '{card.name}' takes {len(card.inputs)} sequences; this version runs models of one sequence."
        )
    return given[card.inputs[0]]
