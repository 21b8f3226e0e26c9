# SPDX-License-Identifier: Apache-2.0
"""KoLeo: the class tokens of a batch keep their distance from each other.

Source: Sablayrolles et al., Spreading vectors (arXiv 1806.03198); as in DINOv3 (reference notes 3.4).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.training.losses.self_supervised.processes import gathered

EPSILON = 1e-8


def koleo_loss(tokens: Tensor) -> Tensor:
    """- mean log distance to the nearest other token, for tokens (B, C) of one view.

    Neighbours are looked for in all processes; each averages over its own tokens, so that the processes' mean is the
    loss of the whole batch. A batch of one has no neighbours and no loss.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        own = F.normalize(tokens.float(), dim=-1, eps=EPSILON)
        everyone, first = gathered(own)
        if len(everyone) < 2:
            return (own * 0).sum()
        with torch.no_grad():
            likeness = own @ everyone.T
            rows = torch.arange(len(own), device=own.device)
            likeness[rows, first + rows] = -1
            nearest = likeness.argmax(dim=1)
        distances = F.pairwise_distance(own, everyone[nearest], eps=EPSILON)
        return -torch.log(distances + EPSILON).mean()
