# SPDX-License-Identifier: Apache-2.0
"""Trains and tests everything that the plan names; started again, it goes on where it was stopped."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ProstateXferLib.files import file_sha256, make_folder
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.structures import PROSTATE
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import Progress, SubProgress
from ProstateXferLib.studies.miniature.case_scores import CaseScore, read_scores, score_gland, write_scores
from ProstateXferLib.studies.miniature.plan import ARMS, CV_NAME, ENCODERS, TEST, TEST_NAME, Arm
from ProstateXferLib.training.chain import run_chain
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.masks import read_mask
from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.recipe.reading import read_recipe
from ProstateXferLib.training.recipe.schema import Chain
from ProstateXferLib.training.stage_data import find_data


@dataclass(frozen=True)
class Effort:
    """How much of the plan is done.

    Attributes:
        folds: folds trained, of the recipes' five.
        steps: optimiser steps after which every stage ends; None for the recipes' own.
        arms: names of the arms; empty for all.
    """

    folds: int = 5
    steps: int | None = None
    arms: tuple[str, ...] = ()

    @property
    def chosen_arms(self) -> tuple[Arm, ...]:
        """The arms in the plan's order."""
        return tuple(arm for arm in ARMS if not self.arms or arm.name in self.arms)


def run_miniature(folder: Path, effort: Effort, *, data: Path, device: str, progress: Progress) -> list[CaseScore]:
    """Encoders, arms and their scores.

    Args:
        folder: where everything is kept: encoders/, arms/, scores/, cache/.
        effort: how much of the plan.
        data: folder with promise12/ and real/.
        device: "auto", "cpu", "cuda", ...
        progress: told where the study is.

    Raises:
        ProstateXferError: data that is not there, or a training that fails.
        CancelledError: the user stopped; the same call goes on.
    """
    trainings = len(ENCODERS) + len(effort.chosen_arms) * effort.folds
    parts = iter(SubProgress(progress, i / trainings, (i + 1) / trainings) for i in range(trainings))
    encoders: dict[str, Path] = {}
    for encoder in ENCODERS:
        changes = _start_from(encoders[encoder.start]) if encoder.start else []
        chain = read_recipe(encoder.recipe, changes=changes, steps=effort.steps)
        encoders[encoder.name] = _trained(chain, folder / "encoders" / encoder.name, folder, data, device, next(parts))
    scores: list[CaseScore] = []
    for arm in effort.chosen_arms:
        changes = _start_from(encoders[arm.encoder]) if arm.encoder else []
        folds = [
            read_recipe(arm.recipe, changes=changes, fold=fold, steps=effort.steps) for fold in range(effort.folds)
        ]
        models = [
            _trained(chain, folder / "arms" / arm.name / f"fold-{fold}", folder, data, device, next(parts))
            for fold, chain in enumerate(folds)
        ]
        scores += _scored(arm, folds, models, folder / "scores" / f"{arm.name}.csv", data, device)
    return scores


def _start_from(checkpoint: Path) -> list[str]:
    return [f"stages.0.start.checkpoint={checkpoint}"]


def _trained(chain: Chain, stem: Path, folder: Path, data: Path, device: str, progress: Progress) -> Path:
    from ProstateXferLib.pipelines.device import resolve_device

    make_folder(stem.parent)
    return run_chain(
        chain,
        stem.with_suffix(".safetensors"),
        data=data,
        device=resolve_device(device),
        cache=folder / "cache",
        progress=progress,
    )


def _scored(
    arm: Arm, folds: Sequence[Chain], models: Sequence[Path], table: Path, data: Path, device: str
) -> list[CaseScore]:
    """Every cross-validation case by the model that did not see it, every test case by the mean of all models."""
    models_sha256 = hashlib.sha256("".join(file_sha256(model) for model in models).encode()).hexdigest()
    table = table.with_stem(f"{table.stem}-{models_sha256[:12]}")  # other models, another table
    if table.is_file():
        return read_scores(table)
    make_folder(table.parent)
    scores: list[CaseScore] = []
    for fold, (chain, model) in enumerate(zip(folds, models, strict=True)):
        segmenter = Segmenter(model, device=device)
        for case in find_data(chain.stages[0], data).split.validation:
            scores.append(_score(segmenter, case, arm=arm.name, fold=fold, data=CV_NAME, true_mm=False))
    segmenter = Segmenter(list(models), device=device)
    for case in find_cases(TEST, data):
        scores.append(_score(segmenter, case, arm=arm.name, fold=-1, data=TEST_NAME, true_mm=True))
    write_scores(table, scores)
    return scores


def _score(segmenter: Segmenter, case: Case, *, arm: str, fold: int, data: str, true_mm: bool) -> CaseScore:
    image = read_image(case.images["T2w"])
    found = segmenter.predict(image)
    mask = whole_structure_mask(sitk.GetArrayFromImage(found.labels), PROSTATE, found.structures)
    reference = read_mask(case.masks[PROSTATE.name], Grid.of(image))
    return score_gland(reference, mask, arm=arm, fold=fold, data=data, case_id=case.case_id, true_mm=true_mm)
