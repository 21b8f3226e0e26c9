# SPDX-License-Identifier: Apache-2.0
"""An `ensembles.evaluator.Evaluator` over kept predictions, in one process or several."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.workers import prepare_worker
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.studies.ensemble_selection.ensemble_measure import EnsembleMeasure


class PredictedEvaluator:
    """Measures one ensemble after the other.

    Args:
        measure: of one ensemble on one case.
        progress: asked whether to stop.
        pool: processes that hold the measure as well; None works here.
    """

    def __init__(self, measure: EnsembleMeasure, progress: Progress, pool: ProcessPoolExecutor | None = None) -> None:
        self._measure, self._progress, self._pool = measure, progress, pool
        self.measured = 0
        """How many ensembles were measured on a case so far."""

    def __call__(self, members: Members, cases: tuple[str, ...]) -> CaseMetrics:
        """Metrics of the ensemble on these cases, in their order.

        Raises:
            CancelledError: the user stopped.
        """
        rows = list(self._rows(members, cases))
        return CaseMetrics(cases, np.array(rows))

    def _rows(self, members: Members, cases: tuple[str, ...]) -> Iterator[tuple[float, ...]]:
        try:
            waiting = None
            if self._pool is not None:
                waiting = [self._pool.submit(_metrics_in_worker, members, case) for case in cases]
            for number, case in enumerate(cases):
                raise_if_cancelled(self._progress)
                row = waiting[number].result() if waiting else self._measure.metrics(members, case)
                self.measured += 1
                yield row
        except BrokenProcessPool as error:
            raise ProstateXferError(
                "A process that measured ensembles died, as for lack of memory: use fewer --jobs."
            ) from error


@contextmanager
def opened_evaluator(measure: EnsembleMeasure, progress: Progress, *, jobs: int = 1) -> Iterator[PredictedEvaluator]:
    """An evaluator whose processes end with the block; the numbers do not depend on `jobs`."""
    if jobs == 1:
        yield PredictedEvaluator(measure, progress)
        return
    # Started anew: a fork of a process with threads, as ITK and torch have them, may never wake up.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(measure,))
    try:
        yield PredictedEvaluator(measure, progress, pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_OF_WORKER: list[EnsembleMeasure] = []


def _begin_worker(measure: EnsembleMeasure) -> None:
    prepare_worker()
    _OF_WORKER[:] = [measure]


def _metrics_in_worker(members: Members, case: str) -> tuple[float, ...]:
    return _OF_WORKER[0].metrics(members, case)
