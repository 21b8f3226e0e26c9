# SPDX-License-Identifier: Apache-2.0
"""The chosen ensemble as a file: every candidate with all of its folds, and the card that says what was measured."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.card import Score
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.provenance import library_versions
from ProstateXferLib.studies.ensemble_selection.case_hashes import hashed_cases
from ProstateXferLib.studies.ensemble_selection.opened_plan import card_together
from ProstateXferLib.studies.ensemble_selection.selection import Selection


def weighted_checkpoints(selection: Selection) -> Iterator[tuple[str, Checkpoint, float]]:
    """(candidate, checkpoint, weight) of the final ensemble: a candidate's weight in equal parts over its folds."""
    final = selection.nested.final
    for name, weight in zip(final.names, final.weights, strict=True):
        checkpoints = selection.opened.checkpoints_of(name)
        for checkpoint in checkpoints:
            yield name, checkpoint, weight / len(checkpoints)


def write_deployed(selection: Selection, path: Path, *, name: str) -> Checkpoint:
    """Write the ensemble; members that lie elsewhere are copied beside it, so that it will run.

    The rules (thresholds, smallest volumes) are those of the heaviest candidate, as measured, and not those of the
    heaviest file: a candidate of one checkpoint weighs more a file than one of five folds.

    Raises:
        ProstateXferError: a member cannot be copied or the file not be written.
    """
    parts = list(weighted_checkpoints(selection))
    options, final = selection.options, selection.nested.final
    made = make_ensemble(
        path,
        [checkpoint for _, checkpoint, _ in parts],
        [weight for _, _, weight in parts],
        average=options.average,
        name=name,
        title=f"{options.structure}: {len(parts)} models of {len(final.names)} candidates, chosen by cross-validation",
        scores=_scores(selection),
        history=(_history(selection),),
        copy_members=True,
    )
    first = {name: selection.opened.checkpoints_of(name)[0] for name in final.names}
    rules = card_together(((first[name], weight) for name, weight in zip(final.names, final.weights, strict=True)))
    if (rules.heads, rules.structures) == (made.card.heads, made.card.structures):
        return made
    write_checkpoint(path, replace(made.card, heads=rules.heads, structures=rules.structures), {})
    return load_checkpoint(path)


def _scores(selection: Selection) -> tuple[Score, ...]:
    """The held-out numbers of the way of choosing; the ensemble itself was chosen on all cases."""
    cases = sum(len(fold.fold.reporting) for fold in selection.nested.folds)
    found = []
    for difference in selection.nested.differences:
        title = difference.metric.title
        if difference.metric.key == "nsd":
            title = f"NSD at {selection.options.tolerance_mm:g} mm"
        unit = f", {difference.metric.unit}" if difference.metric.unit else ""
        found.append(
            Score(
                f"{title}{unit}, nested cross-validation",
                round(difference.chosen, 6),
                f"{selection.options.structure}, cases held out from the choice, and by the plan from training",
                cases,
            )
        )
    return tuple(found)


def _history(selection: Selection) -> dict[str, Any]:
    """How it was chosen, without naming a case."""
    options = selection.options
    kept = ("method", "rule", "average", "structure", "tolerance_mm", "boundary", "trade", "folds", "seed")
    return {
        "stage": "ensemble selection",
        "selection": {key: value for key, value in options.to_json().items() if key in kept},
        "candidates": dict.fromkeys(selection.opened.plan.names, 0.0)
        | dict(zip(selection.nested.final.names, selection.nested.final.weights, strict=True)),
        "split": {"rule": "nested", "ids": {"choosing": hashed_cases(selection.opened.plan)}},
        "verdict": selection.nested.verdict,
        "versions": library_versions(),
    }
