# SPDX-License-Identifier: Apache-2.0
"""`run_selection`: from a plan to a choice and its worth on cases that did not choose."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ProstateXferLib.ensembles.evaluator import Evaluator, Remembered
from ProstateXferLib.ensembles.front import Front, FrontPoint, front_of
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.nested import Chooser, NestedResult, nested_cross_validation
from ProstateXferLib.ensembles.ranking import rank
from ProstateXferLib.ensembles.simplex import grid_size
from ProstateXferLib.pipelines.provenance import now_utc
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress
from ProstateXferLib.studies.ensemble_selection.choosers import baseline_of, chooser_of
from ProstateXferLib.studies.ensemble_selection.deciding_heads import deciding_heads
from ProstateXferLib.studies.ensemble_selection.evaluator import opened_evaluator
from ProstateXferLib.studies.ensemble_selection.measure_of import measure_of
from ProstateXferLib.studies.ensemble_selection.opened_plan import OpenedPlan, open_plan
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions
from ProstateXferLib.studies.ensemble_selection.plan import Plan
from ProstateXferLib.studies.ensemble_selection.predictions import Predictions, predict_all
from ProstateXferLib.studies.ensemble_selection.selection import Effort, Selection
from ProstateXferLib.studies.ensemble_selection.training_cases import check_not_trained_on

CHOOSING = "Choosing"
_FEWEST_PATIENTS = 8
"""The least p of a signed-rank test of n pairs is 2 / 2^n; five times that (Holm) is below 0.05 from 8 on."""


def run_selection(
    plan: Plan, options: SelectionOptions, work: Path, *, jobs: int = 1, progress: Progress | None = None
) -> Selection:
    """Predict what is missing, choose, and compare with the baseline on held-out cases.

    Args:
        plan: cases and candidates.
        options: how.
        work: folder of kept predictions; the same one again predicts nothing anew.
        jobs: processes that measure ensembles; the result does not depend on it.
        progress: told where it is, asked whether to stop.

    Raises:
        ProstateXferError: a plan, model, image or reference that does not fit, or fewer patients than folds.
        CancelledError: the user stopped; predictions stay.
    """
    progress = progress or SilentProgress()
    started, clock = now_utc(), time.perf_counter()
    opened = open_plan(plan, options.structure)
    choose, baseline = chooser_of(options, plan.names), baseline_of(options, plan.names)
    warnings = [*check_not_trained_on(opened), *_warnings(opened)]
    for warning in warnings:
        progress.warn(warning)
    predictions = predict_all(opened, options, work, SubProgress(progress, 0.0, 0.6))
    measure = measure_of(opened, predictions, options, SubProgress(progress, 0.6, 0.62))
    choosing = SubProgress(progress, 0.62, 0.98)
    with opened_evaluator(measure, choosing, jobs=jobs) as evaluator:
        begun, ask = time.perf_counter(), Remembered(evaluator)
        nested = nested_cross_validation(
            ask,
            [case.name for case in plan.cases],
            choose=_told(choose, options.folds + 1, choosing, lambda: evaluator.measured),
            baseline=baseline,
            patients=plan.patients,
            folds=options.folds,
            seed=options.seed,
        )
        took = time.perf_counter() - begun
        effort = Effort(
            predictions.predicted, predictions.found, evaluator.measured, took, started, time.perf_counter() - clock
        )
        return _selection(opened, options, nested, ask, predictions, warnings=tuple(warnings), effort=effort)


def _selection(
    opened: OpenedPlan,
    options: SelectionOptions,
    nested: NestedResult,
    ask: Remembered,
    predictions: Predictions,
    *,
    warnings: tuple[str, ...],
    effort: Effort,
) -> Selection:
    """Everything that the report tells beside the comparison; nothing new is measured."""
    cases = tuple(case.name for case in opened.plan.cases)
    singles = {name: ask(Members.of_counts({name: 1}), cases) for name in opened.plan.names}
    return Selection(
        opened,
        replace(options, structure=opened.scored_as),
        nested,
        singles,
        rank(singles, options.rule),
        _front(ask, nested, options, cases),
        FrontPoint.of(nested.final_baseline, ask(nested.final_baseline, cases), options.boundary),
        predictions.image_sha256,
        warnings,
        effort,
    )


def _front(ask: Remembered, nested: NestedResult, options: SelectionOptions, cases: tuple[str, ...]) -> Front:
    """Of every ensemble that was measured on all cases; the one that was chosen is marked, by whatever rule it was."""
    points = [FrontPoint.of(members, metrics, options.boundary) for members, metrics in ask.known(cases).items()]
    names = {name for point in points for name in point.members.names}
    exhaustive = options.method == "simplex" and grid_size(len(names), options.steps) <= options.most
    front = front_of(points, options.boundary, trade=options.trade, exhaustive=exhaustive)
    return replace(front, chosen=next(point for point in points if point.members == nested.final))


def _told(choose: Chooser, choices: int, progress: Progress, measured: Callable[[], int]) -> Chooser:
    """The same chooser; says how many of the choices are made."""
    made = 0

    def told(evaluator: Evaluator, cases: tuple[str, ...]) -> Members:
        nonlocal made
        where = "on all cases" if made == choices - 1 else f"outer fold {made + 1} of {choices - 1}"
        progress.update(CHOOSING, made / choices, f"{where}, {measured()} measurements so far")
        chosen = choose(evaluator, cases)
        made += 1
        return chosen

    return told


def _warnings(opened: OpenedPlan) -> list[str]:
    found = []
    patients = len(set(opened.plan.patients.values()))
    if patients < _FEWEST_PATIENTS:
        found.append(
            f"With {patients} patients no difference can be shown, however large: a signed-rank test of five metrics "
            f"with Holm's correction needs {_FEWEST_PATIENTS}."
        )
    for name in opened.plan.names:
        rules = {deciding_heads(one.card, opened.structure) for one in opened.checkpoints_of(name)}
        if len(rules) > 1:
            found.append(
                f"The folds of '{name}' have different rules (thresholds, say): each was measured by its own, and the "
                "ensemble takes the first one's where that candidate is the heaviest."
            )
    return found
