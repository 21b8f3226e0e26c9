# SPDX-License-Identifier: Apache-2.0
"""Deep supervision: the decoder's coarse outputs are trained, too."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F


def deep_supervision_weights(outputs: int) -> tuple[float, ...]:
    """Weights of a decoder's outputs, full resolution first: 1, 1/2, 1/4, ..., the coarsest 0, normalised to sum 1.

    Source: nnU-Net v2 (mr-dinov3-and-nnunet.md, 4.5). A single output has weight 1.
    """
    if outputs < 2:
        return (1.0,)
    weights = [0.5**index for index in range(outputs - 1)]
    return (*(weight / sum(weights) for weight in weights), 0.0)


def deeply_supervised(loss: Callable[[Tensor, Tensor], Tensor], outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """The weighted sum of a loss over a decoder's outputs.

    Args:
        loss: (logits, target) -> scalar.
        outputs: logits (B, K, ...) from full to coarsest resolution.
        target: (B, ...) int64 at full resolution; brought to the others' by nearest neighbour.
    """
    total = target.new_zeros((), dtype=outputs[0].dtype)
    for logits, weight in zip(outputs, deep_supervision_weights(len(outputs)), strict=True):
        if weight:
            total = total + weight * loss(logits, _at_size(target, logits.shape[2:]))
        else:  # its layer still takes part, so that all processes of a DDP run agree on which gradients there are
            total = total + 0.0 * logits.float().mean()
    return total


def _at_size(target: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(target.shape[1:]) == tuple(size):
        return target
    return F.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
