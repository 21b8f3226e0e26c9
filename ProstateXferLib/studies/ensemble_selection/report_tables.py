# SPDX-License-Identifier: Apache-2.0
"""The tables of a selection's report."""

import math

from ProstateXferLib.ensembles.case_metrics import METRICS, RankedMetric
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.reports.page import Table
from ProstateXferLib.studies.ensemble_selection.choosers import baseline_text
from ProstateXferLib.studies.ensemble_selection.deployed import weighted_checkpoints
from ProstateXferLib.studies.ensemble_selection.selection import Selection

_DECIMALS = {"dice": 3, "nsd": 3, "hd95": 2, "masd": 2, "volume_error": 2}
_SHA256_DIGITS = 12


def selection_tables(selection: Selection) -> list[Table]:
    """What it is worth first, then what was chosen, then what there was to choose from."""
    return [
        _difference_table(selection),
        _members_table(selection),
        _folds_table(selection),
        _singles_table(selection),
    ]


def metric_title(metric: RankedMetric, tolerance_mm: float) -> str:
    """The NSD with its tolerance."""
    return f"NSD at {tolerance_mm:g} mm" if metric.key == "nsd" else metric.title


def _difference_table(selection: Selection) -> Table:
    nested, rows = selection.nested, []
    for held_out, apparent in zip(nested.differences, nested.apparent, strict=True):
        key = held_out.metric.key
        interval = "–"
        if not math.isnan(held_out.low):
            interval = f"{_signed(held_out.low, key)} to {_signed(held_out.high, key)}"
        title = metric_title(held_out.metric, selection.options.tolerance_mm)
        numbers = [_number(held_out.baseline, key), _number(held_out.chosen, key), _signed(held_out.difference, key)]
        p = f"{held_out.p_adjusted:.2g}"
        rows.append(
            [
                _with_unit(title, held_out.metric),
                *numbers,
                interval,
                p,
                _signed(apparent.difference, key),
                held_out.outcome,
            ]
        )
    cases = sum(len(fold.fold.reporting) for fold in nested.folds)
    patients = nested.differences[0].patients
    interval = f"{100 * nested.confidence:g} % interval"
    return Table(
        "Chosen ensemble against the baseline, on cases that did not choose",
        ["Metric", "Baseline", "Chosen", "Difference", interval, "p (Holm)", "Difference where chosen", "Outcome"],
        rows,
        f"{cases} cases of {patients} patients, each measured by the ensemble chosen without its outer fold. Baseline: "
        f"{baseline_text(selection.options, selection.opened.plan.names)}. Less is better for HD95, MASD and volume "
        "RMSE. Interval: bootstrap over patients; p: Wilcoxon's signed-rank test. 'Difference where chosen' is the "
        "difference on the cases that chose, which is too good: it shows what choosing and reporting on the same cases "
        "would have claimed.",
    )


def _members_table(selection: Selection) -> Table:
    rows = [
        [name, one.card.name, one.path.name, f"{weight:.4g}", one.sha256[:_SHA256_DIGITS]]
        for name, one, weight in weighted_checkpoints(selection)
    ]
    return Table(
        "The ensemble that was written",
        ["Candidate", "Model", "File", "Weight", "SHA-256"],
        rows,
        f"Chosen on all cases, averaged by {selection.options.average}. A candidate's weight is shared equally by its "
        "folds: each case was predicted by the one fold that had not seen it, the ensemble averages all of them, so "
        "what runs is not exactly what was measured.",
    )


def _folds_table(selection: Selection) -> Table:
    rows = []
    for number, fold in enumerate(selection.nested.folds, start=1):
        dice = [
            _number(float(table.column("dice").mean()), "dice")
            for table in (fold.baseline_metrics, fold.chosen_metrics)
        ]
        rows.append([str(number), str(len(fold.fold.reporting)), *dice, _members(fold.baseline), _members(fold.chosen)])
    nested = selection.nested
    rows.append(["all cases", "–", "–", "–", _members(nested.final_baseline), _members(nested.final)])
    return Table(
        "What each outer fold chose",
        ["Outer fold", "Held-out cases", "Dice, baseline", "Dice, chosen", "Baseline", "Chosen, with weights"],
        rows,
        "Folds that choose alike speak for a choice that is not luck. The last row is the ensemble that was written.",
    )


def _singles_table(selection: Selection) -> Table:
    ranking, weights = selection.ranking, _weights(selection.nested.final)
    places = {name: number for number, name in enumerate(ranking.names)}
    rows = []
    for name in ranking.order:
        place = places[name]
        numbers = [
            _number(float(value), metric.key) for metric, value in zip(METRICS, ranking.aggregates[place], strict=True)
        ]
        models = str(len(selection.opened.checkpoints_of(name)))
        rows.append([name, models, *numbers, f"{ranking.mean_positions[place]:.2f}", weights.get(name, "–")])
    titles = [metric_title(metric, selection.options.tolerance_mm) for metric in METRICS]
    return Table(
        "The candidates alone, on all cases",
        ["Candidate", "Models", *titles, "Mean position", "Weight"],
        rows,
        "Every case by the model that the plan names as not trained on it. Mean position: of five, 1 is best"
        + (" (positions case by case)." if ranking.rule == "case" else "."),
        ["", "", *(metric.unit for metric in METRICS), "", ""],
    )


def _weights(members: Members) -> dict[str, str]:
    return {name: f"{weight:.3g}" for name, weight in zip(members.names, members.weights, strict=True)}


def _members(members: Members) -> str:
    if len(set(members.weights)) == 1 and len(members.names) > 1:
        return f"{', '.join(members.names)} (equally)"
    return str(members) if len(members.names) > 1 else members.names[0]


def _with_unit(title: str, metric: RankedMetric) -> str:
    return f"{title}, {metric.unit}" if metric.unit else title


def _number(value: float, key: str) -> str:
    return f"{value:.{_DECIMALS[key]}f}"


def _signed(value: float, key: str) -> str:
    """One decimal more: differences are smaller than what they are of."""
    return f"{value:+.{_DECIMALS[key] + 1}f}"
