# SPDX-License-Identifier: Apache-2.0
"""The words of `StudyOptions` and `StudyInputs` on the command line: `study` and `batch` have the same options."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments
from ProstateXferLib.cohort.options import StudyOptions, Task

_INPUTS = {
    "t2w": "T2-weighted MR",
    "adc": "ADC map, for models that take it",
    "high-b": "diffusion image of a high b value, for models that take it",
    "cbct": "cone-beam CT",
    "reference-ct": "a true CT in HU to compare synthetic CTs with",
    "reference-segmentation": "a segmentation to compare with (names, or 1 Prostate and 2 DIL)",
}
_MODELS = {"prostate": "Prostate", "dil": "DIL", "ct-from-mr": "CT from MR", "ct-from-cbct": "CT from CBCT"}


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each input."""
    inputs = parser.add_argument_group("images", "NIfTI, NRRD, MetaImage or DICOM folders of one patient")
    for name, text in _INPUTS.items():
        inputs.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each field of `StudyOptions`, with its default."""
    default = StudyOptions()
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=[str(task) for task in Task],
        default=[str(task) for task in default.tasks],
        help=f"what to do (default {' '.join(default.tasks)})",
    )
    for task, title in _MODELS.items():
        name = default.model_of(Task(task))
        parser.add_argument(
            f"--{task}-model", metavar="MODEL", default=name, help=f"name or file of the model for {title}"
        )
    parser.add_argument("--models-folder", type=Path, metavar="FOLDER", help="search this folder for models first")
    parser.add_argument("--tta", action="store_true", help="average over four mirrorings (four times the work)")
    parser.add_argument("--decode-everything", action="store_true", help="also decode outside the body and the gland")
    parser.add_argument(
        "--uncertainty",
        action=argparse.BooleanOptionalAction,
        default=default.uncertainty,
        help="write the uncertainty of the segmentation (default yes)",
    )
    add_pipeline_arguments(parser)
