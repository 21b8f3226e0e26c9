# SPDX-License-Identifier: Apache-2.0
"""The report of a selection as one page: whether the chosen ensemble beats the baseline, and by how much."""

from ProstateXferLib.ensembles.front_figure import front_figure
from ProstateXferLib.pipelines.provenance import library_versions
from ProstateXferLib.reports.page import Figure, Page
from ProstateXferLib.studies.ensemble_selection.choosers import baseline_text
from ProstateXferLib.studies.ensemble_selection.report_tables import selection_tables
from ProstateXferLib.studies.ensemble_selection.selection import Selection

_METHODS = {
    "greedy": "greedy forward selection with replacement (Caruana et al., ICML 2004) on the mean position over five "
    "metrics",
    "simplex": "weights on the simplex that trade the mean Dice against the boundary metric",
}


def selection_page(selection: Selection) -> Page:
    """Tables, the front's figure, files, methods.

    Raises:
        ProstateXferError: matplotlib is not installed.
    """
    plan, options, effort = selection.opened.plan, selection.options, selection.effort
    return Page(
        title=f"Choice of an ensemble: {options.structure}",
        subtitle=selection.verdict,
        notes=_notes(selection),
        warnings=selection.warnings,
        tables=selection_tables(selection),
        figures=[_figure(selection)],
        provenance={
            "Started": effort.started_utc,
            "Cases": f"{len(plan.cases)} of {len(set(plan.patients.values()))} patients",
            "Candidates": len(plan.candidates),
            "Predictions": f"{effort.predicted} made, {effort.found} kept from before",
            "Measurements": f"{effort.measured}, {effort.milliseconds_each:.0f} ms each",
            "Seconds": f"{effort.seconds:.0f}",
            "Options": {name: value for name, value in options.to_json().items() if value not in ([], {}, "")},
            "Versions": library_versions(),
            "More": "selection.json has every number, the cases of every fold and the SHA-256 of every image and model",
        },
    )


def _figure(selection: Selection) -> Figure:
    chosen_by = "greedily" if selection.options.method == "greedy" else ""
    png = front_figure(selection.front, baseline=selection.baseline_point, chosen_by=chosen_by)
    kind = "every mixture of the grid" if selection.front.exhaustive else "those that the search came by"
    return Figure(
        "Overlap against boundary accuracy",
        f"Each dot is an ensemble that was measured on all cases ({kind}); up and to the right is better. The line "
        "joins those that no other beats in both. These are the cases that chose: the places of chosen ensembles are "
        "too good, and the first table has the numbers to report.",
        png,
    )


def _notes(selection: Selection) -> list[str]:
    options = selection.options
    boundary = f", boundary metric {options.boundary}, trade {options.trade:g}" if options.method == "simplex" else ""
    return [
        f"Candidates were averaged by {options.average}, composed to labels by the rules of the heaviest candidate and "
        f"scored as 'prostatexfer evaluate --empty penalty' does. Choice: {_METHODS[options.method]}{boundary}.",
        f"Nested: in each of {options.folds} outer folds of whole patients (seed {options.seed}) an ensemble and the "
        f"baseline ({baseline_text(options, selection.opened.plan.names)}) were chosen on the other folds and measured "
        "on this one. The held-out numbers speak of the way of choosing; the ensemble that was written was then chosen "
        "on all cases.",
        "What this cannot undo: where the training of a candidate, or the selection of its best weights, used a case, "
        "its numbers on that case are too good in both arms. The outer folds share choosing cases, so intervals are "
        "somewhat too narrow (Bengio and Grandvalet, J Mach Learn Res 2004;5:1089-1105).",
    ]
