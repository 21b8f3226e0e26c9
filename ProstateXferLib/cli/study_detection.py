# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study detection`: evaluated models side by side in the figures of the SAP paper."""

import argparse
import math
from dataclasses import asdict
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which evaluations, of which structure, and where to write the table."""
    parser.add_argument(
        "arms",
        nargs="+",
        type=_name_and_folder,
        metavar="NAME=FOLDER",
        help="a name for a model and the folder that `prostatexfer evaluate` wrote for it",
    )
    parser.add_argument("--structure", default="", help="the lesions' name, where an evaluation has several")
    parser.add_argument("-o", "--output", type=Path, help="table to write (.md)")


def run(args: argparse.Namespace) -> int:
    """Read the evaluations, print the table."""
    from ProstateXferLib.files import require_folder_of, write_text
    from ProstateXferLib.studies.detection.document import detection_document
    from ProstateXferLib.studies.detection.lesion_figures import read_lesion_figures

    if len(dict(args.arms)) != len(args.arms):
        raise UsageError("Two models have the same name: give each its own.")
    if args.output is not None:
        require_folder_of(args.output)
    progress = make_progress(args.json)
    arms = {name: read_lesion_figures(folder, args.structure) for name, folder in args.arms}
    text = detection_document(arms)
    if args.output is not None:
        write_text(args.output, text)
    values = {
        name: {key: {**asdict(f), "value": None if math.isnan(f.value) else f.value} for key, f in figures.items()}
        for name, figures in arms.items()
    }
    progress.result({"output": args.output, "arms": values}, text=text)
    return ExitCode.DONE


def _name_and_folder(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=FOLDER, e.g. sap=results/sap")
    return name, Path(folder)
