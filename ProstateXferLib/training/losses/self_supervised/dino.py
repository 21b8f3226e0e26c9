# SPDX-License-Identifier: Apache-2.0
"""DINO: the student's class token of one crop predicts the teacher's of another. Source: reference notes 3.4."""

import torch
from torch import Tensor

STUDENT_TEMPERATURE = 0.1


def dino_loss(student_logits: Tensor, targets: Tensor, *, other_views_only: bool = False) -> Tensor:
    """Mean cross entropy over all pairs of a student's and a teacher's crop.

    Args:
        student_logits: (S, B, K), prototypes' scores of S crops of each of B images.
        targets: (T, B, K), the teacher's distributions of T crops (`sinkhorn`).
        other_views_only: leave out the pairs in which both saw the same crop (global crops: S = T, in the same order).
    """
    log_likelihood = torch.log_softmax(student_logits.float() / STUDENT_TEMPERATURE, dim=-1)
    pairs = torch.einsum("sbk,tbk->st", log_likelihood, targets.float())
    count = pairs.numel()
    if other_views_only:
        pairs = pairs * (1 - torch.eye(*pairs.shape, device=pairs.device))
        count -= min(pairs.shape)
    return -pairs.sum() / (count * student_logits.shape[1])
