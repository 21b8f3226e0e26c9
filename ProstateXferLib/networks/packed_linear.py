# SPDX-License-Identifier: Apache-2.0
"""Linear layers on a CPU with weights packed once for oneDNN, and the GELU in the same pass.

A vision transformer is a chain of matrix products with the same weights for every slice. PyTorch's ordinary call hands
fp32 to MKL and re-packs bf16 weights every time; with weights packed beforehand the same products ran 1.1-1.2 times as
fast here (Testing/Benchmarks), and a GELU fused behind one costs nothing.

The two operators used are those that PyTorch's own compiler emits. Where a build lacks them, or anything but plain CPU
inference in fp32 or bf16 is asked for, the ordinary functions run instead and give the same numbers.
"""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.networks.weight_cache import weights_key

_OPERATORS = (
    "_linear_pointwise",
    "_reorder_linear_weight",
    "_convolution_pointwise",
    "_is_mkldnn_bf16_supported",
)
_MatrixOf = Callable[[Tensor], Tensor]
_packed: "weakref.WeakKeyDictionary[nn.Module, dict[_MatrixOf | None, tuple[tuple, Tensor]]]" = (
    weakref.WeakKeyDictionary()
)


def linear(
    module: nn.Module,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    gelu: bool = False,
    matrix_of: _MatrixOf | None = None,
) -> Tensor:
    """x @ matrix.T + bias, then exact GELU where asked for.

    Args:
        module: owner of the weight; the packed copy lives as long as it does and is renewed when the weight changes.
        x: (..., inputs).
        weight: the stored parameter, (outputs, inputs) unless `matrix_of` is given.
        bias: (outputs,) or None.
        gelu: apply GELU (erf form) to the result.
        matrix_of: turns a parameter of another shape into the (outputs, inputs) matrix; run once per change of weights,
            and each such function has a packed copy of its own.
    """
    if torch.is_grad_enabled():
        forget_packed(module)
    if not onednn_available(x, weight):
        y = F.linear(x, weight if matrix_of is None else matrix_of(weight), bias)
        return F.gelu(y) if gelu else y
    key, copies = weights_key([weight]), _packed.setdefault(module, {})
    kept = copies.get(matrix_of)
    if kept is None or kept[0] != key:
        matrix = weight if matrix_of is None else matrix_of(weight).contiguous()
        kept = (key, torch.ops.mkldnn._reorder_linear_weight(matrix, x.numel() // x.shape[-1]))
        copies[matrix_of] = kept
    if gelu:
        return torch.ops.mkldnn._linear_pointwise(x, kept[1], bias, "gelu", [], "none")
    return torch.ops.mkldnn._linear_pointwise(x, kept[1], bias, "none", [], "")


def forget_packed(module: nn.Module) -> None:
    """Drop a module's packed weights: where a gradient is asked for, what follows may change them without counting
    (fused optimisers)."""
    _packed.pop(module, None)


def onednn_available(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's fused operators can run this: plain CPU inference in fp32 or bf16, on a build that has them."""
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and weight.dtype == x.dtype
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
        and (x.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
