# SPDX-License-Identifier: Apache-2.0
"""`run_evaluation`: all cases of a cohort, in parallel."""

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.case_result import CaseResult
from ProstateXferLib.evaluation.evaluate_case import evaluate_case, failed_case
from ProstateXferLib.evaluation.evaluation import Evaluation, reported_structures
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.workers import run_parallel
from ProstateXferLib.pipelines.provenance import now_utc
from ProstateXferLib.progress import Progress, SilentProgress

EVALUATING = "Evaluating"


def run_evaluation(
    cases: Sequence[CaseFiles],
    options: EvaluationOptions,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    on_case: Callable[[CaseResult], None] = lambda result: None,
) -> Evaluation:
    """Score the cases in `jobs` processes (default: one a core) and gather them in their own order.

    A script that calls this with more than one job needs the usual `if __name__ == "__main__":`.

    Raises:
        ProstateXferError: no case could be evaluated, or the two sides have no structure in common.
        CancelledError: the user stopped.
    """
    progress = progress or SilentProgress()
    started, clock = now_utc(), time.perf_counter()
    results: dict[int, CaseResult] = {}
    progress.update(EVALUATING, 0.0, f"0 of {len(cases)}")
    for number, result in run_parallel(
        cases,
        functools.partial(evaluate_case, options=options),
        jobs=max(1, jobs or available_cores()),
        lost=functools.partial(_lost, options=options),
        cancelled=progress.cancelled,
    ):
        results[number] = result
        on_case(result)
        progress.update(EVALUATING, len(results) / len(cases), f"{len(results)} of {len(cases)}")
    ordered = tuple(results[number] for number in range(len(cases)))
    _check_any(ordered)
    structures, told = reported_structures(ordered, options)
    if not structures:
        raise ProstateXferError(
            "Predictions and references have no structure in common: say what the label values mean with --names "
            "and --reference-names, as in 1=Prostate 2=DIL."
        )
    warnings = (*_gathered(ordered), *told)
    for warning in warnings:
        progress.warn(warning)
    seconds = time.perf_counter() - clock
    return Evaluation(options, tuple(cases), ordered, structures, warnings, started, seconds)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lost(case: CaseFiles, options: EvaluationOptions) -> CaseResult:
    return failed_case(
        case.case,
        options.methods,
        "The process that worked on this case died, as for lack of memory: use fewer --jobs or look at its files.",
    )


def _check_any(results: Sequence[CaseResult]) -> None:
    """Raise where nothing at all came out: the first failure is likely everyone's."""
    if all(method.failure for result in results for method in result.methods.values()):
        first = next(iter(results[0].failures.values()))
        raise ProstateXferError(f"None of the {len(results)} cases could be evaluated; '{results[0].case}': {first}")


def _gathered(results: Sequence[CaseResult]) -> list[str]:
    """Each warning of the cases once, with how many cases it is of."""
    counts = Counter(w for result in results for method in result.methods.values() for w in method.warnings)
    return [f"{warning} ({count} of {len(results)} cases)" for warning, count in counts.items()]
