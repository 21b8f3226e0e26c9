# SPDX-License-Identifier: Apache-2.0
"""Soft Dice + cross-entropy as nnU-Net computes them, blind to what is not annotated.

Own code and not MONAI's DiceCELoss: that one gives the same values on complete labels, but takes neither pixels nor
whole samples that must not count (label -1). Values are checked against nnU-Net's (Testing/Python/parity).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError

IGNORED = -1
"""Label of pixels that teach nothing: padding, and structures that nobody looked for in this case."""


@dataclass(frozen=True)
class DiceCEOptions:
    """What is added up.

    Attributes:
        dice, cross_entropy: weights of the two parts (nnU-Net: 1 and 1).
        batch_dice: one Dice a class over all samples of the batch (nnU-Net's 2-D plans) instead of one a sample
            (its 3d_fullres plans, unless there is a low-resolution stage).
        smooth: added to numerator and denominator.
    """

    dice: float = 1.0
    cross_entropy: float = 1.0
    batch_dice: bool = True
    smooth: float = 1e-5

    def __post_init__(self) -> None:
        if min(self.dice, self.cross_entropy) < 0 or self.dice + self.cross_entropy == 0:
            raise ProstateXferError("The loss needs weights dice and cross_entropy of 0 or more, not both 0.")
        if not self.smooth > 0:
            raise ProstateXferError("The loss's smooth must be above 0: an empty structure would be divided by 0.")


def dice_ce(logits: Tensor, target: Tensor, options: DiceCEOptions) -> Tensor:
    """Cross-entropy minus Dice, a scalar that is -1 (times `dice`) where everything is right.

    Dice is (2 I + s) / (P + G + s) of softmax probabilities, the background left out, averaged over classes (and over
    samples without `batch_dice`); cross-entropy is averaged over pixels. Pixels with target -1 count in neither;
    samples that hold nothing else are no samples, and a batch that holds nothing else has loss 0. Over several
    processes both parts are those of the whole batch.
    Source: nnU-Net v2 (mr-dinov3-and-nnunet.md, 4.5).

    Args:
        logits: (B, K, ...), class 0 the background.
        target: (B, ...) int64 class numbers, -1 where unknown.
        options: see `DiceCEOptions`.
    """
    logits = logits.float()
    loss = logits.new_zeros(())
    if options.cross_entropy:
        loss = loss + options.cross_entropy * _cross_entropy(logits, target)
    if options.dice:
        # A batch that says nothing about this head has no Dice at all, rather than that of an empty structure, 1.
        counted = _over_processes((target != IGNORED).sum().to(logits.dtype))
        loss = loss - options.dice * _soft_dice(logits, target, options) * (counted > 0)
    return loss


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    total = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
    count = (target != IGNORED).sum().to(total.dtype)
    return _over_processes(total) / _over_processes(count).clamp_min(1)


def _soft_dice(logits: Tensor, target: Tensor, options: DiceCEOptions) -> Tensor:
    counted = (target != IGNORED)[:, None]
    probability = torch.softmax(logits, dim=1)[:, 1:] * counted
    classes = torch.arange(1, logits.shape[1], device=target.device).view(1, -1, *[1] * (target.ndim - 1))
    truth = target[:, None] == classes
    spatial = tuple(range(2, logits.ndim))
    overlap, found, drawn = ((probability * truth).sum(spatial), probability.sum(spatial), truth.sum(spatial))
    if options.batch_dice:
        sums = _over_processes(torch.stack([overlap.sum(0), found.sum(0), drawn.sum(0).to(found.dtype)]))
        return _dice(*sums, options.smooth).mean()
    known = counted.flatten(1).any(1)
    total = _dice(overlap, found, drawn, options.smooth)[known].sum()
    count = known.sum().to(total.dtype) * (logits.shape[1] - 1)
    return _over_processes(total) / _over_processes(count).clamp_min(1)


def _dice(overlap: Tensor, found: Tensor, drawn: Tensor, smooth: float) -> Tensor:
    return (2 * overlap + smooth) / (found + drawn + smooth)


def _over_processes(value: Tensor) -> Tensor:
    """The sum over all training processes; the value itself in a single one."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        return _SumOverProcesses.apply(value)
    return value


class _SumOverProcesses(torch.autograd.Function):
    """Every process computes the same loss from the sum, and DDP averages gradients: hence the factor backwards."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * distributed.get_world_size()
