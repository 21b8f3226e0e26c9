# SPDX-License-Identifier: Apache-2.0
"""Whether a case of a batch is done already, by what went in and not by what the files are called."""

from pathlib import Path

from ProstateXferLib.cohort.inputs import StudyInputs
from ProstateXferLib.cohort.loaded_models import LoadedModels
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.cohort.result import STUDY_FILE, StudyResult
from ProstateXferLib.cohort.study_images import input_sha256, used_inputs
from ProstateXferLib.errors import ProstateXferError


def finished_study(
    folder: Path, inputs: StudyInputs, options: StudyOptions, models: LoadedModels
) -> StudyResult | None:
    """The result in `folder`, if the same options, input bytes and model files made it and its outputs are there."""
    if not (folder / STUDY_FILE).is_file():
        return None
    try:
        result = StudyResult.read(folder)
        same = (
            result.options.fingerprint() == options.fingerprint()
            and all((folder / name).is_file() for name in result.outputs.values())
            and _model_hashes(result) == {str(t): models.checkpoint(t, options).sha256 for t in options.tasks}
            and result.file_sha256 == {n: input_sha256(path) for n, path in used_inputs(inputs, options).items()}
        )
    except ProstateXferError:
        return None  # what is wrong with it is told when the case is run again
    return result if same else None


def _model_hashes(result: StudyResult) -> dict[str, str]:
    return {task: model["sha256"] for model in result.models for task in model["tasks"]}
