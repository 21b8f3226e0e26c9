# SPDX-License-Identifier: Apache-2.0
"""The cases of a stage: found, split, and described for the card without telling who they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.fingerprint import data_record, sides_record
from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.datasets.splits import split_cases
from ProstateXferLib.training.recipe.schema import Source, Stage
from ProstateXferLib.training.tasks.task import StageData


@dataclass(frozen=True)
class FoundData:
    """The cases of every source of a stage, and how they are split."""

    stage: Stage
    sources: tuple[tuple[Source, tuple[Case, ...]], ...]
    split: StageData

    def record(self, *, cache: Path | None = None) -> dict[str, Any]:
        """{"data": one record a source, "split": rule, fold, seed and hashed ids a side}; reads every file once.

        Args:
            cache: folder for the files' hashes, so that they are not read every time.
        """
        data = [
            {"layout": source.layout, "test_only": source.test_only, **data_record(cases, cache=cache)}
            for source, cases in self.sources
        ]
        rule = self.stage.split
        return {
            "data": data,
            "split": {"rule": rule.rule, "fold": rule.fold, "seed": rule.seed, "ids": sides_record(self.split)},
        }


def find_data(stage: Stage, data: Path) -> FoundData:
    """Find the cases of a stage below the folder `data` and split them.

    Raises:
        ProstateXferError: a folder or layout does not fit, a split that does not, or nobody validates what is selected.
    """
    sources = tuple((source, tuple(find_cases(source, data))) for source in stage.data)
    split = split_cases(sources, stage.split)
    if stage.selection.keep == "best" and not split.validation:
        raise ProstateXferError(
            f"The stage '{stage.name}' keeps the best validated weights, but its split leaves no case to validate: "
            "change the split, or keep 'final'."
        )
    return FoundData(stage, sources, split)
