# SPDX-License-Identifier: Apache-2.0
"""The measure of ensembles from kept predictions: references read, boxes narrowed, once for the whole choice."""

from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.studies.ensemble_selection.case_references import read_reference
from ProstateXferLib.studies.ensemble_selection.deciding_heads import deciding_heads, floor_of
from ProstateXferLib.studies.ensemble_selection.ensemble_measure import CasePrediction, EnsembleMeasure, deciding_box
from ProstateXferLib.studies.ensemble_selection.opened_plan import OpenedPlan
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions
from ProstateXferLib.studies.ensemble_selection.predictions import Predictions

READING = "Reading references"


def measure_of(
    opened: OpenedPlan, predictions: Predictions, options: SelectionOptions, progress: Progress
) -> EnsembleMeasure:
    """Everything that measuring takes.

    Raises:
        ProstateXferError: a reference that does not fit (`read_reference`).
        CancelledError: the user stopped.
    """
    references, found = {}, {}
    for number, case in enumerate(opened.plan.cases):
        raise_if_cancelled(progress)
        progress.update(READING, number / len(opened.plan.cases), case.name)
        grid = predictions.grids[case.name]
        references[case.name] = read_reference(case, grid, options.reference_names, opened.scored_as)
        found[case.name] = _of_case(opened, predictions, case.name, options.average)
    return EnsembleMeasure(references, found, opened.structure, opened.scored_as, options.average, options.tolerance_mm)


def _of_case(opened: OpenedPlan, predictions: Predictions, case: str, average: str) -> dict[str, CasePrediction]:
    checkpoints = {name: opened.checkpoint(name, case) for name in opened.plan.names}
    heads = {
        name: [(head, names_found(one.card, head)) for head in deciding_heads(one.card, opened.structure)]
        for name, one in checkpoints.items()
    }
    # The heaviest member's rules count in an ensemble, so the least strict candidate's floor is what is safe.
    floors: dict[str, float] = {}
    for head, names in (pair for own in heads.values() for pair in own):
        floors |= {name: min(floor_of(head), floors.get(name, 1.0)) for name in names}
    found = {}
    for name, checkpoint in checkpoints.items():
        file = predictions.files[case][name]
        found[name] = CasePrediction(checkpoint, file, deciding_box(file, heads[name], floors, average=average))
    return found
