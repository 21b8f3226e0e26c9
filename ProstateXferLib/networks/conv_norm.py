# SPDX-License-Identifier: Apache-2.0
"""Convolution + batch norm, folded into one convolution wherever no gradient is asked for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """norm(convolution(x)); in evaluation the norm is folded into the weights.

    The folded weights are kept on the norm while neither layer changes: folding costs one pass over the weights,
    running the norm costs one pass over the activations, which at 256 x 256 are a hundred times larger.
    """
    if norm.training or torch.is_grad_enabled():
        return norm(convolution(x))
    weight, bias = _folded(convolution, norm)
    return F.conv2d(x, weight, bias, padding=convolution.padding)


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    parts = [convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    if convolution.bias is not None:
        parts.append(convolution.bias)
    key = tuple((part.data_ptr(), part._version, part.dtype) for part in parts)
    kept = getattr(norm, "_folded", None)
    if kept is None or kept[0] != key:
        scale = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
        shift = norm.bias.float() - norm.running_mean.float() * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias.float() * scale
        weight = (convolution.weight.float() * scale[:, None, None, None]).to(convolution.weight.dtype)
        kept = (key, weight.contiguous(memory_format=torch.channels_last), shift.to(convolution.weight.dtype))
        norm._folded = kept
    return kept[1], kept[2]
