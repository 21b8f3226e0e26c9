# SPDX-License-Identifier: Apache-2.0
"""selection.json: everything that the choice was made of, for programs and for who wants to make it again."""

import dataclasses
from typing import Any

from ProstateXferLib.ensembles.case_metrics import METRIC_KEYS, CaseMetrics
from ProstateXferLib.ensembles.front import FrontPoint
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.nested import FoldChoice
from ProstateXferLib.ensembles.paired_difference import MetricDifference
from ProstateXferLib.pipelines.provenance import library_versions
from ProstateXferLib.studies.ensemble_selection.choosers import baseline_text
from ProstateXferLib.studies.ensemble_selection.deployed import weighted_checkpoints
from ProstateXferLib.studies.ensemble_selection.selection import Selection


def selection_record(selection: Selection) -> dict[str, Any]:
    """Plain values; names of cases stay on this computer, a card has their hashes alone."""
    plan, nested, front = selection.opened.plan, selection.nested, selection.front
    return {
        "verdict": {"word": nested.verdict, "text": str(nested)},
        "options": selection.options.to_json(),
        "baseline": baseline_text(selection.options, plan.names),
        "final": members_record(nested.final),
        "final_baseline": members_record(nested.final_baseline),
        "files": [
            {"candidate": name, "model": one.card.name, "sha256": one.sha256, "file": one.path.name, "weight": weight}
            for name, one, weight in weighted_checkpoints(selection)
        ],
        "held_out": [_difference(difference) for difference in nested.differences],
        "on_the_cases_that_chose": [_difference(difference) for difference in nested.apparent],
        "confidence": nested.confidence,
        "folds": [_fold(fold) for fold in nested.folds],
        "candidates": _candidates(selection),
        "front": {
            "boundary": front.boundary_metric,
            "trade": front.trade,
            "exhaustive": front.exhaustive,
            "chosen": _point(front.chosen),
            "baseline": _point(selection.baseline_point),
            "efficient": [_point(point) for point in front.efficient],
            "evaluated": [_point(point) for point in front.evaluated],
        },
        "cases": {
            case.name: {"patient": case.patient, "image_sha256": dict(selection.image_sha256[case.name])}
            for case in plan.cases
        },
        "warnings": list(selection.warnings),
        "effort": dataclasses.asdict(selection.effort),
        "versions": library_versions(),
    }


def members_record(members: Members) -> dict[str, float]:
    """Candidate -> weight."""
    return dict(zip(members.names, members.weights, strict=True))


def _candidates(selection: Selection) -> dict[str, Any]:
    positions = dict(zip(selection.ranking.names, selection.ranking.mean_positions.tolist(), strict=True))
    return {
        name: {
            "mean_position": positions[name],
            "models": [{"name": one.card.name, "sha256": one.sha256} for one in selection.opened.checkpoints_of(name)],
            **_metrics(selection.singles[name]),
        }
        for name in selection.opened.plan.names
    }


def _metrics(metrics: CaseMetrics) -> dict[str, Any]:
    return {
        "aggregate": dict(zip(METRIC_KEYS, metrics.aggregate().tolist(), strict=True)),
        "cases": {
            case: dict(zip(METRIC_KEYS, row, strict=True))
            for case, row in zip(metrics.cases, metrics.values.tolist(), strict=True)
        },
    }


def _fold(fold: FoldChoice) -> dict[str, Any]:
    return {
        "choosing": list(fold.fold.choosing),
        "chosen": members_record(fold.chosen),
        "baseline": members_record(fold.baseline),
        "reporting": {"chosen": _metrics(fold.chosen_metrics), "baseline": _metrics(fold.baseline_metrics)},
    }


def _difference(difference: MetricDifference) -> dict[str, Any]:
    values = dataclasses.asdict(difference)
    return {**values, "metric": difference.metric.key}


def _point(point: FrontPoint) -> dict[str, Any]:
    return {"members": members_record(point.members), "overlap": point.overlap, "boundary": point.boundary}
