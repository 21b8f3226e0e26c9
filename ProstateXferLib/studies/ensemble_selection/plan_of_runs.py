# SPDX-License-Identifier: Apache-2.0
"""A plan from training runs: the folds of a recipe, each predicting the cases that it validated.

A run folder (docs/training.md) holds the recipe, and for its last stage the hashed ids of the cases on every side of
the split and the weights "best" and "final". The cases themselves are found anew by the recipe's data sources, split by
its rule, and compared with those hashes, so that a plan of other data than those trained on cannot come about.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.studies.ensemble_selection.case_hashes import hashed_case
from ProstateXferLib.studies.ensemble_selection.held_out import HeldOut, joined_plan
from ProstateXferLib.studies.ensemble_selection.plan import Candidate, Plan
from ProstateXferLib.training.candidates import CANDIDATES_FILE
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.recipe.files import read_yaml
from ProstateXferLib.training.recipe.reading import chain_from, resolved
from ProstateXferLib.training.recipe.schema import Chain
from ProstateXferLib.training.run_folder import RECIPE_FILE, SPLIT_FILE, RunFolder, first_difference
from ProstateXferLib.training.stage_data import find_data


@dataclass(frozen=True)
class TrainingRun:
    """A finished run of one fold.

    Attributes:
        folder: the run folder.
        arm: the recipe's name, or the name that the user gives a variant of it.
        chain: the recipe.
        weights: kind ("best", "final") -> checkpoint.
        validated: the cases that the last stage validated, which it was not trained on.
    """

    folder: Path
    arm: str
    chain: Chain
    weights: dict[str, Path]
    validated: tuple[Case, ...]


def plan_of_runs(folders: Sequence[tuple[str, Path]], data: Path, output: Path) -> Plan:
    """The plan of runs; references are written as named label maps into `output`, which becomes the plan's folder.

    Args:
        folders: (arm, run folder); an arm without a name has the recipe's.
        data: folder that the recipes' sources are relative to.
        output: folder of the plan.

    Raises:
        ProstateXferError: no finished run, other data than those trained on, two runs of one arm that validated one
            case or have other recipes, cases without files, or too few candidates.
    """
    return joined_plan([held_out_of_runs(folders, data)], output)


def held_out_of_runs(folders: Sequence[tuple[str, Path]], data: Path) -> HeldOut:
    """The candidates of runs, and the cases that they validated; arguments and errors as `plan_of_runs`."""
    runs = [read_run(folder, data, arm) for arm, folder in folders]
    _check_arms(runs)
    found = {case.case_id: case for run in runs for case in run.validated}
    cards = tuple(read_card(path) for run in runs for path in run.weights.values())
    return HeldOut(f"'{runs[0].arm}'", _candidates(runs), tuple(found.values()), cards)


def read_run(folder: Path, data: Path, arm: str = "") -> TrainingRun:
    """One run folder.

    Raises:
        ProstateXferError: as `plan_of_runs`.
    """
    folder = Path(folder)
    record = _json(folder / CANDIDATES_FILE, "it is no run folder of a finished training (OUTPUT.run)")
    chain = chain_from(read_yaml(folder / RECIPE_FILE), where=RECIPE_FILE)
    place = RunFolder(folder).stage(len(chain.stages) - 1, chain.stages[-1].name)
    split = _json(place.path / SPLIT_FILE, "its last stage has no split")
    validated = find_data(chain.stages[-1], data).split.validation
    if sorted(hashed_case(case.case_id) for case in validated) != sorted(split["split"]["ids"]["validation"]):
        raise ProstateXferError(
            f"The cases found in '{data}' are not those that '{folder}' was trained and validated with: give the same "
            "data with --data."
        )
    if not validated:
        raise ProstateXferError(
            f"'{folder}' validated no case, so there is none that it was not trained on: train it with --fold."
        )
    weights = {entry["kind"]: folder / entry["path"] for entry in record["candidates"]}
    for path in weights.values():
        if not path.is_file():
            raise ProstateXferError(f"'{path}' is gone, which '{CANDIDATES_FILE}' names: put it back.")
    return TrainingRun(folder, arm or chain.name, chain, weights, validated)


def _candidates(runs: Sequence[TrainingRun]) -> tuple[Candidate, ...]:
    """ "ARM/best" and "ARM/final", as PANTHER's winners kept both; a kind that not every fold has is left out."""
    found = []
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        for kind in ("best", "final"):
            if all(kind in run.weights for run in own):
                models = {case.case_id: run.weights[kind] for run in own for case in run.validated}
                found.append(Candidate(f"{arm}/{kind}", models))
    return tuple(found)


def _check_arms(runs: Sequence[TrainingRun]) -> None:
    """The folds of one arm share a recipe but for the fold, and no case."""
    first: dict[str, TrainingRun] = {}
    owners: dict[tuple[str, str], TrainingRun] = {}
    for run in runs:
        known = first.setdefault(run.arm, run)
        if difference := first_difference(_without_fold(known.chain), _without_fold(run.chain)):
            raise ProstateXferError(
                f"'{known.folder}' and '{run.folder}' are runs of '{run.arm}' with other recipes ({difference[0]}): "
                "give each arm a name, as ARM=FOLDER."
            )
        for case in run.validated:
            owner = owners.setdefault((run.arm, case.case_id), run)
            if owner is not run:
                raise ProstateXferError(
                    f"'{owner.folder}' and '{run.folder}' both validated the case '{case.case_id}': give one run "
                    "a fold, or name the arms, as ARM=FOLDER."
                )


def _without_fold(chain: Chain) -> dict[str, Any]:
    stages = tuple(replace(stage, split=replace(stage.split, fold=0, tuning_fold=-1)) for stage in chain.stages)
    return resolved(replace(chain, stages=stages))


def _json(path: Path, why: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProstateXferError(f"'{path}' cannot be read; {why}: give another folder.") from error
