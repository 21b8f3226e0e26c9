# SPDX-License-Identifier: Apache-2.0
"""The study from its trainings to its page, figure and table of all cases."""

import os
from pathlib import Path

from ProstateXferLib.files import file_sha256, make_folder, write_text
from ProstateXferLib.progress import Progress
from ProstateXferLib.studies.miniature.case_scores import write_scores
from ProstateXferLib.studies.miniature.document import Trained, study_page, trained_of
from ProstateXferLib.studies.miniature.figure import draw_dice
from ProstateXferLib.studies.miniature.plan import CV_NAME, ENCODERS, TEST_NAME
from ProstateXferLib.studies.miniature.run import Effort, run_miniature

FIGURE = "results-dice.png"


def run_and_write(
    folder: Path, effort: Effort, *, data: Path, device: str, page: Path | None, progress: Progress
) -> Path:
    """Run what is missing and write FOLDER/results.md, results-dice.png and cases.csv; `page` gets copies of the first
    two.

    Errors as for `run_miniature`.
    """
    make_folder(folder)
    scores = run_miniature(folder, effort, data=data, device=device, progress=progress)
    write_scores(folder / "cases.csv", scores)
    arms = {arm.name: arm.title for arm in effort.chosen_arms}
    text = study_page(scores, _trained(folder, effort), command=_command(effort, page), figure=FIGURE)
    for target in (folder / "results.md", page):
        if target is not None:
            draw_dice(target.parent / FIGURE, scores, arms, (CV_NAME, TEST_NAME))
            write_text(target, text)
    return folder / "results.md"


def _trained(folder: Path, effort: Effort) -> list[Trained]:
    paths = {encoder.title: folder / "encoders" / f"{encoder.name}.safetensors" for encoder in ENCODERS}
    for arm in effort.chosen_arms:
        for fold in range(effort.folds):
            paths[f"{arm.title}, fold {fold}"] = folder / "arms" / arm.name / f"fold-{fold}.safetensors"
    return [trained_of(title, path, file_sha256(path)) for title, path in paths.items()]


def _command(effort: Effort, page: Path | None) -> str:
    words = ["prostatexfer study miniature -o FOLDER --data DATA"]
    if effort.folds != 5:
        words.append(f"--folds {effort.folds}")
    if effort.steps is not None:
        words.append(f"--steps {effort.steps}")
    if effort.arms:
        words.append(f"--arms {','.join(effort.arms)}")
    if page is not None:
        words.append(f"--page {Path(os.path.relpath(page))}")
    return " ".join(words)
