# SPDX-License-Identifier: Apache-2.0
"""From a head's logits in network space to probabilities on the image's own grid."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.pipelines.postprocessing import smoothed
from ProstateXferLib.pipelines.preparation import PreparedImage


def head_probabilities(
    logits: Tensor, head: Head, card: ModelCard, prepared: PreparedImage, spacing_zyx: Sequence[float]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (structure name, probability (z, y, x)): resampled as logits, then softmax (nnU-Net), then smoothed.

    Args:
        logits: (K, z, rows, columns), the background first.
        head: whose logits they are.
        card: names its structures.
        prepared: the way back.
        spacing_zyx: of the image, mm.
    """
    names = {structure.value: structure.name for structure in card.structures}
    probabilities = torch.softmax(torch.from_numpy(prepared.restore(logits)), dim=0).numpy()
    for index, value in enumerate(head.values, start=1):
        yield names[value], smoothed(probabilities[index], head.smoothing_mm, spacing_zyx)
