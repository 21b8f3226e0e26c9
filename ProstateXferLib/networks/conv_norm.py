# SPDX-License-Identifier: Apache-2.0
"""Convolution + batch norm (+ GELU), folded into one convolution wherever no gradient is asked for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.networks.packed_linear import onednn_available
from ProstateXferLib.networks.upsampled_conv import conv_of_upsampled
from ProstateXferLib.networks.weight_cache import weights_key

LARGEST_LOW_MAP = 64
"""Side of a map up to which convolving it before upsampling pays: 0.4x at 32 and 0.6x at 64, but 1.6x at 128, where the
interpolation matrices have grown too large (c = 64, one thread); with the way back 0.3x, 0.5x and 1.8x."""


def conv_norm(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, gelu: bool = False) -> Tensor:
    """norm(convolution(x)), then exact GELU where asked for; in evaluation the norm is folded into the weights.

    The folded weights are kept on the norm while neither layer changes: folding costs one pass over the weights,
    running norm and GELU cost passes over the activations, which at 256 x 256 are a hundred times larger.
    """
    if norm.training or torch.is_grad_enabled():
        norm._folded = None
        y = norm(convolution(x))
        return F.gelu(y) if gelu else y
    weight, bias = _folded(convolution, norm)
    if gelu and onednn_available(x, weight):
        padding = list(convolution.padding)
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, [1, 1], [1, 1], 1, "gelu", [], "none")
    y = F.conv2d(x, weight, bias, padding=convolution.padding)
    return F.gelu(y) if gelu else y


def conv_norm_gelu_of_upsampled(
    low: Tensor, size: tuple[int, int], convolution: nn.Conv2d, norm: nn.BatchNorm2d
) -> Tensor:
    """GELU(norm(convolution(bilinear upsampling of `low` to `size`))) for a 3 x 3 convolution without bias."""
    if max(low.shape[-2:]) > LARGEST_LOW_MAP:
        return conv_norm(upsample(low, size), convolution, norm, gelu=True)
    if norm.training or torch.is_grad_enabled():  # backwards it pays as much (Testing/Benchmarks/training_step)
        norm._folded = None
        return F.gelu(norm(conv_of_upsampled(low, convolution.weight, None, size)))
    return F.gelu(conv_of_upsampled(low, *_folded(convolution, norm), size))


def upsample(low: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres, as everywhere in DGCF."""
    return F.interpolate(low, size=size, mode="bilinear", align_corners=False)


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    parts = [convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    if convolution.bias is not None:
        parts.append(convolution.bias)
    key = weights_key(parts)
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
