# SPDX-License-Identifier: Apache-2.0
"""What a finished run offers to an ensemble: the last stage's best and final weights, in one list."""

import json
from typing import Any

from ProstateXferLib.files import file_sha256, write_text
from ProstateXferLib.training.engine.logs import VALIDATION, read_metrics
from ProstateXferLib.training.recipe.reading import recipe_sha256
from ProstateXferLib.training.recipe.schema import Chain
from ProstateXferLib.training.run_folder import RunFolder, StageFolder

CANDIDATES_FILE = "candidates.json"


def write_candidates(folder: RunFolder, chain: Chain) -> None:
    """Write `candidates.json` into the folder of a run whose last stage is done.

    PANTHER's winners kept both checkpoints of every fold and chose among them by cross-validation (arXiv 2508.21775;
    papers.md 004). One entry a checkpoint: "path" (from the run folder), "sha256", "kind" ("best" or "final"),
    "selected" (whether it is the one that the run gives), "step", "validation" (all values measured at that step; empty
    where none were). Beside them the recipe and the split, which say which cases the values are of.
    """
    index, stage = len(chain.stages) - 1, chain.stages[-1]
    place = folder.stage(index, stage.name)
    done = place.done() or {}
    entries = []
    for kind in ("best", "final"):
        path = place.weights(kind)
        if path.is_file() and done.get(kind):
            step = done[kind]["step"]
            entries.append(
                {
                    "path": path.relative_to(folder.path).as_posix(),
                    "sha256": file_sha256(path),
                    "kind": kind,
                    "selected": kind == stage.selection.keep,
                    "step": step,
                    "validation": _validation_at(place, step),
                }
            )
    split = {"rule": stage.split.rule, "folds": stage.split.folds, "fold": stage.split.fold, "seed": stage.split.seed}
    record = {"recipe": {"name": chain.name, "sha256": recipe_sha256(chain)}, "stage": stage.name, "split": split}
    write_text(folder.path / CANDIDATES_FILE, json.dumps({**record, "candidates": entries}, indent=1) + "\n")


def _validation_at(place: StageFolder, step: int) -> dict[str, Any]:
    lines = [line for line in read_metrics(place.path) if line["kind"] == VALIDATION and line["step"] == step]
    return {name: value for name, value in lines[-1].items() if name not in ("kind", "step")} if lines else {}
