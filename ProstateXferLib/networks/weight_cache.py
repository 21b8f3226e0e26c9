# SPDX-License-Identifier: Apache-2.0
"""When something computed from weights (folded, packed, tabulated) has to be computed again."""

from collections.abc import Iterable

from torch import Tensor


def weights_key(tensors: Iterable[Tensor]) -> tuple:
    """Changes when one of the tensors is replaced, moved, cast or written to in place.

    An inference tensor has no version counter; modules hold such tensors after a move within `torch.inference_mode`
    (the fall-back from a full GPU to the CPU). Whoever keeps a result under this key forgets it whenever a gradient is
    asked for, because fused optimisers write to weights without counting.
    """
    return tuple((t.data_ptr(), None if t.is_inference() else t._version, t.dtype, t.device) for t in tensors)
