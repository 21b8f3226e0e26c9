# SPDX-License-Identifier: Apache-2.0
"""Sinkhorn-Knopp balancing: the teacher's targets use all prototypes alike, which is what keeps them from collapsing.

Source: Caron et al., SwAV (arXiv 2006.09882); as in DINOv3 (arXiv 2508.10104, reference notes 3.4).
"""

import math

import torch
from torch import Tensor

from ProstateXferLib.training.losses.self_supervised.processes import largest, process_count, summed

ITERATIONS = 3


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = ITERATIONS) -> Tensor:
    """Teacher logits (B, K) -> targets (B, K), float32, each row a probability distribution.

    B are all rows that are balanced together: both global crops of the whole batch for the class token, the masked
    patches for iBOT, those of all processes where several train (each may bring another number, also none).

    The plan exp(logits / temperature) is scaled so that every prototype, then every row, has the same sum, in turn. Its
    logarithm is kept instead, less one number a prototype and one a row: at a temperature of 0.04 float32 would
    overflow at logits above 3.5.
    """
    scores = logits.float() / temperature
    count = math.log(scores.shape[1])
    of_rows = scores.new_zeros(len(scores), 1)
    for _ in range(iterations):
        of_prototypes = _log_sum_of_rows(scores - of_rows) + count
        of_rows = torch.logsumexp(scores - of_prototypes, dim=1, keepdim=True)
    return (scores - of_prototypes - of_rows).exp_()


def _log_sum_of_rows(scores: Tensor) -> Tensor:
    """log sum exp over the rows of all processes, (K,)."""
    own = torch.logsumexp(scores, dim=0) if len(scores) else scores.new_full((scores.shape[1],), -torch.inf)
    if process_count() == 1:
        return own
    top = largest(own.clone())
    return top + summed((own - top).exp()).log()
