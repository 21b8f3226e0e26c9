# SPDX-License-Identifier: Apache-2.0
"""From a head's logits in network space to probabilities on the image's own grid."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.pipelines.postprocessing import smoothed
from ProstateXferLib.pipelines.preparation import PreparedImage


def head_probabilities(
    logits: Tensor, head: Head, card: ModelCard, prepared: PreparedImage, spacing_zyx: Sequence[float]
) -> dict[str, np.ndarray]:
    """Structure name -> probability (z, y, x): resampled as logits, then softmax (nnU-Net), then smoothed.

    Args:
        logits: (K, z, rows, columns), the background first.
        head: whose logits they are.
        card: names its structures.
        prepared: the way back.
        spacing_zyx: of the image, mm.
    """
    probabilities = torch.softmax(torch.from_numpy(prepared.restore(logits)), dim=0).numpy()
    return {
        name: smoothed(probabilities[index], head.smoothing_mm, spacing_zyx)
        for index, name in enumerate(names_found(card, head), start=1)
    }
