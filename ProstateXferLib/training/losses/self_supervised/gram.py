# SPDX-License-Identifier: Apache-2.0
"""Gram anchoring: patch tokens keep the pattern of similarities that an earlier teacher gave them.

Source: Siméoni et al., DINOv3 (arXiv 2508.10104), section 4; reference notes 3.3 and 3.4.
"""

from torch import Tensor
from torch.nn import functional as F


def gram_loss(student: Tensor, teacher: Tensor, *, per_image: bool = True) -> Tensor:
    """Mean squared difference of the cosine similarities of all pairs of patches.

    Args:
        student, teacher: normed patch tokens (B, N, C); the teacher's may have another C.
        per_image: pairs within each image; otherwise all B N patches of the batch with each other.
    """
    student, teacher = (F.normalize(tokens.float(), dim=-1) for tokens in (student, teacher))
    if not per_image:
        student, teacher = student.flatten(0, 1), teacher.flatten(0, 1)
    return F.mse_loss(student @ student.mT, teacher @ teacher.mT)


def resize_tokens(tokens: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Patch tokens (B, h w, C) of a (h, w) grid on another grid: bicubic without antialiasing, as the reference."""
    if grid == target:
        return tokens
    maps = tokens.mT.unflatten(2, grid)
    return F.interpolate(maps.float(), size=target, mode="bicubic", align_corners=False).flatten(2).mT
