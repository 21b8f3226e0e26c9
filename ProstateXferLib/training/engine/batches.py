# SPDX-License-Identifier: Apache-2.0
"""Batches by step number: which samples step s of process r works off, prepared here or in worker processes."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.tasks.task import Samples


@dataclass(frozen=True)
class Share:
    """How one batch is divided: `parts` pieces one after another in each of `processes`, this one being `process`."""

    batch_size: int
    parts: int = 1
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_size % (self.parts * self.processes):
            raise ProstateXferError(
                f"A batch of {self.batch_size} cannot be worked off in {self.parts} equal parts by each of "
                f"{self.processes} process(es): change loop.batch_size, loop.accumulate or --devices."
            )

    @property
    def part_size(self) -> int:
        """Samples in one piece."""
        return self.batch_size // (self.parts * self.processes)

    def numbers(self, step: int) -> list[range]:
        """Sample numbers of this process's pieces of step `step`, contiguous, in order."""
        first = step * self.batch_size + self.process * self.parts * self.part_size
        starts = range(first, first + self.parts * self.part_size, self.part_size)
        return [range(start, start + self.part_size) for start in starts]


def batches(
    samples: Samples, share: Share, *, first_step: int, last_step: int, workers: int, pin: bool
) -> Iterator[dict[str, Tensor]]:
    """The pieces of steps `first_step` up to, not, `last_step`, in order: `share.parts` for each step.

    Args:
        samples: training samples by number.
        share: this process's part of each batch.
        first_step, last_step: steps, 0 is the first of the stage.
        workers: processes that prepare samples ahead; 0 prepares them when they are asked for.
        pin: put them into memory from which a GPU copies beside its work.

    Raises:
        ProstateXferError: a sample cannot be made.
    """
    loader = DataLoader(
        _Numbered(samples),
        batch_sampler=_Pieces(share, first_step, last_step),
        collate_fn=_stacked,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_parent,
        pin_memory=pin,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # of its own: the workers' seeds must not be drawn from the learner's
    )
    for piece in loader:
        if isinstance(piece, _Failed):
            raise ProstateXferError(piece.sentence)
        yield piece


@dataclass(frozen=True)
class _Failed:
    """What a worker hands back instead of a user's error, to which torch would add a page of traceback."""

    sentence: str


class _Numbered(Dataset):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, index: int) -> dict[str, Tensor] | _Failed:
        try:
            return self._samples[index]
        except ProstateXferError as error:
            return _Failed(str(error))


def _stacked(samples: list[dict[str, Tensor] | _Failed]) -> dict[str, Tensor] | _Failed:
    failed = next((sample for sample in samples if isinstance(sample, _Failed)), None)
    return failed or default_collate(samples)


def _leave_signals_to_the_parent(_worker: int) -> None:
    """Ctrl-C reaches the workers too; the parent decides when to stop, and ends them with SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Pieces:
    def __init__(self, share: Share, first_step: int, last_step: int) -> None:
        self._share, self._steps = share, range(first_step, last_step)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            for numbers in self._share.numbers(step):
                yield list(numbers)

    def __len__(self) -> int:
        return len(self._steps) * self._share.parts
