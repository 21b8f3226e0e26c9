# SPDX-License-Identifier: Apache-2.0
"""iBOT: the student guesses the teacher's tokens of patches that it does not see.

Source: Zhou et al., iBOT (arXiv 2111.07832); weights and divisor as in DINOv3 (reference notes 3.4).
"""

import torch
from torch import Tensor

from ProstateXferLib.training.losses.self_supervised.dino import STUDENT_TEMPERATURE


def ibot_loss(student_logits: Tensor, targets: Tensor, weights: Tensor, images: int) -> Tensor:
    """Cross entropy at masked patches, every masked image counting the same.

    Args:
        student_logits: (M, K), scores of the M masked patches of all images.
        targets: (M, K), the teacher's distributions of the same patches (`sinkhorn`).
        weights: (M,), see `patch_weights`.
        images: number of images, with and without masked patches, by which the sum is divided.
    """
    log_likelihood = torch.log_softmax(student_logits.float() / STUDENT_TEMPERATURE, dim=-1)
    return -torch.einsum("mk,mk,m->", log_likelihood, targets.float(), weights.float()) / images


def patch_weights(masks: Tensor, hidden: Tensor) -> Tensor:
    """For every hidden patch one over the number of hidden patches of its image, (M,).

    Args:
        masks: (B, N) bool.
        hidden: (M,) positions of the hidden patches in the flattened masks.
    """
    return (masks / masks.sum(dim=1, keepdim=True).clamp_min(1)).flatten()[hidden]
