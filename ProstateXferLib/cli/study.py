# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study`: all tasks on one patient's images, and a study folder with everything they gave."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.cli.study_options import add_input_arguments, add_study_arguments
from ProstateXferLib.cohort.options import StudyInputs, StudyOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, tasks, models, output."""
    add_input_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="study folder to write")
    parser.add_argument("--case", default="study", metavar="NAME", help="name of the case in the record and report")
    add_study_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the study, print the tables."""
    inputs, options = StudyInputs.from_arguments(args), StudyOptions.from_arguments(args)
    if problem := options.problem(inputs):
        raise UsageError(problem)
    from ProstateXferLib.cohort.study import run_study

    progress = make_progress(args.json)
    result = run_study(inputs, options, args.output, progress, args.case)
    progress.result({"folder": result.folder, **result.to_json()}, text=_text(result))
    return ExitCode.DONE


def _text(result) -> str:
    """The result for a person."""
    from ProstateXferLib.reports.table import measurements_text

    parts = [measurements_text(result.measurements, sampled_by=result.sampled_by)] if result.measurements else []
    for key, scores in result.synthesis.items():
        values = ", ".join(
            f"{name.removesuffix('_hu').replace('_', ' ')} {value:.1f} HU"
            for name, value in scores.items()
            if name.endswith("_hu") and value is not None
        )
        parts.append(f"{key}: {values} ({scores['compared_fraction']:.0%} of the body compared)")
    return "\n\n".join([*parts, f"Research use only – not for clinical decisions. Written: {result.folder}"])
