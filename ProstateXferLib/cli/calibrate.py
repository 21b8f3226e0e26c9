# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer calibrate`: how far a model's probabilities can be believed, and a copy whose card mends it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments, set_threads
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from ProstateXferLib.evaluation.label_names import LabelNames
    from ProstateXferLib.studies.calibration.fitting import FittedStructure
    from ProstateXferLib.studies.calibration.options import CalibrationOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, cases, output."""
    parser.add_argument("model", help="checkpoint or ensemble: file or name (an nnU-Net folder: import it first)")
    parser.add_argument(
        "--cases",
        type=Path,
        required=True,
        metavar="CSV",
        help="cases that the model was not trained on: columns image, reference and optionally case, patient, further "
        "sequences",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the copy of the model to write")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write report.html and calibration.json")
    parser.add_argument(
        "--structure", nargs="+", default=[], metavar="NAME", help="calibrate these (default: all the references show)"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="VALUE=NAME",
        help="what the references' values mean (default: what the model's mean; a .seg.nrrd knows its own)",
    )
    parser.add_argument(
        "--region-mm", type=float, default=10.0, metavar="MM", help="count voxels this near the structure (default 10)"
    )
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="folds of patients (default 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and bootstrap (default 0)")
    parser.add_argument("--tta", action="store_true", help="average over mirrorings, as the model will be used")
    parser.add_argument("--data", metavar="TEXT", help="what the cases are, for the card (default: the CSV's name)")
    add_pipeline_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, fit, write the copy and the report."""
    options, names = _options(args), _names(args)
    set_threads(args)
    from ProstateXferLib.checkpoints.loading import load_checkpoint
    from ProstateXferLib.files import require_folder_of
    from ProstateXferLib.pipelines.provenance import WarningLog
    from ProstateXferLib.studies.calibration.calibrated_checkpoint import (
        check_calibrated_checkpoint,
        write_calibrated_checkpoint,
    )
    from ProstateXferLib.studies.calibration.case_list import read_case_list
    from ProstateXferLib.studies.calibration.report import write_calibration_report
    from ProstateXferLib.studies.calibration.run import run_calibration

    progress = make_progress(args.json)
    checkpoint = load_checkpoint(args.model)
    check_calibrated_checkpoint(checkpoint, args.output)
    if args.report is not None:
        require_folder_of(args.report)
        _check_matplotlib()
    cases = read_case_list(args.cases, checkpoint.card.inputs)
    log = WarningLog(progress)
    fitted = run_calibration(
        checkpoint,
        cases,
        options,
        device=args.device,
        precision=args.precision,
        reference_names=names,
        progress=log,
    )
    files = {} if args.report is None else write_calibration_report(fitted, checkpoint, args.report, log.warnings)
    written = write_calibrated_checkpoint(checkpoint, [one.calibration for one in fitted], args.output)
    values = {
        "checkpoint": written.path,
        "sha256": written.sha256,
        "calibration": [one.calibration.to_json() for one in fitted],
        "warnings": log.warnings,
        "files": files,
    }
    progress.result(values, text=_text(fitted, checkpoint.card.name, written.path, files))
    return ExitCode.DONE


def _options(args: argparse.Namespace) -> "CalibrationOptions":
    from ProstateXferLib.studies.calibration.options import CalibrationOptions

    try:
        return CalibrationOptions(
            data=args.data or args.cases.stem,
            structures=tuple(dict.fromkeys(args.structure)),
            region_mm=args.region_mm,
            folds=args.folds,
            seed=args.seed,
            tta=args.tta,
        )
    except ProstateXferError as error:
        raise UsageError(str(error)) from error


def _names(args: argparse.Namespace) -> "LabelNames":
    from ProstateXferLib.evaluation.label_names import LabelNames

    try:
        return LabelNames.parse(args.names)
    except ProstateXferError as error:
        raise UsageError(str(error)) from error


def _check_matplotlib() -> None:
    """Before minutes of work, not after them."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ProstateXferError(
            'The report needs matplotlib, which is not installed: run "pip install matplotlib", or leave out --report.'
        )


def _text(fitted: "Sequence[FittedStructure]", model: str, checkpoint: Path, files: dict[str, Any]) -> str:
    from ProstateXferLib.reports.calibration_section import calibration_sentence

    lines = [f"{one.calibration.structure}: {calibration_sentence(one.calibration, model)}" for one in fitted]
    written = ", ".join(str(path) for path in (checkpoint, *files.values()))
    return "\n".join([*lines, f"Research use only. Written: {written}"])
