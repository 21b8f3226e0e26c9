# SPDX-License-Identifier: Apache-2.0
"""Cases in parallel processes: in any number, in any order, with the same results, and none stops the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ProstateXferLib.errors import CancelledError

_CHECK_SECONDS = 0.2
"""How often a stop is looked for while cases are worked on."""
_WAITING_PER_WORKER = 2
"""Cases handed out ahead: enough that no worker waits, and few enough that memory does not grow with the cohort."""


def run_parallel(
    items: Sequence[Any],
    work: Callable[[Any], Any],
    *,
    jobs: int,
    lost: Callable[[Any], Any],
    cancelled: Callable[[], bool],
) -> Iterator[tuple[int, Any]]:
    """Yield (number of the item, `work(item)`) as results come, in up to `jobs` processes.

    `work` is a module's function (or a partial of one) that never raises. `lost` gives the result of an item whose
    process died, as of a lack of memory: such an item is tried once more, alone.

    Raises:
        CancelledError: the user stopped; processes have ended.
    """
    if jobs == 1 or len(items) < 2:
        for number, item in enumerate(items):
            if cancelled():
                raise CancelledError("Cancelled: nothing was written.")
            yield number, work(item)
        return
    left = list(range(len(items)))
    with _pool(min(jobs, len(items))) as pool:
        try:
            for number, result in _worked(pool, items, left, work, jobs, cancelled):
                left.remove(number)
                yield number, result
        except BrokenProcessPool:
            pass  # the rest is done below, one by one
    for number in left:
        if cancelled():
            raise CancelledError("Cancelled: nothing was written.")
        yield number, _alone(items[number], work, lost)


def _worked(
    pool: ProcessPoolExecutor,
    items: Sequence[Any],
    numbers: Sequence[int],
    work: Callable[[Any], Any],
    jobs: int,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[int, Any]]:
    """Results as they come, with few cases handed out ahead."""
    ahead = iter(list(numbers))
    running: dict[Future, int] = {}
    while True:
        while len(running) < _WAITING_PER_WORKER * jobs and (number := next(ahead, None)) is not None:
            running[pool.submit(work, items[number])] = number
        if not running:
            return
        done, _ = wait(running, timeout=_CHECK_SECONDS, return_when=FIRST_COMPLETED)
        if cancelled():
            raise CancelledError("Cancelled: nothing was written.")
        for future in done:
            yield running.pop(future), future.result()


def _alone(item: Any, work: Callable[[Any], Any], lost: Callable[[Any], Any]) -> Any:
    with _pool(1) as pool:
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            return lost(item)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes started anew: a fork of a process with threads, as ITK has them, may never wake up."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=prepare_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prepare_worker() -> None:
    """One thread each, deaf to Ctrl-C (the parent stops the work), and gone when the parent is."""
    import SimpleITK as sitk

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
