# SPDX-License-Identifier: Apache-2.0
"""What the processes of a distributed run tell each other; in a single process every function returns its input."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it this process asks no other: the first one validates while the others wait."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def process_count() -> int:
    """How many processes train together."""
    together = dist.is_available() and dist.is_initialized() and not _alone.get()
    return dist.get_world_size() if together else 1


def summed(value: Tensor) -> Tensor:
    """The sum over all processes, without gradient; `value` itself is overwritten."""
    if process_count() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.SUM)
    return value


def largest(value: Tensor) -> Tensor:
    """The element-wise maximum over all processes, without gradient; `value` itself is overwritten."""
    if process_count() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """(B, C) of every process stacked in order of rank, and where this process's rows begin.

    The gradient goes back to the process whose rows they are, summed over those that used them. Every process must
    bring the same number of rows.
    """
    if process_count() == 1:
        return rows, 0
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows)), dist.get_rank() * len(rows)
