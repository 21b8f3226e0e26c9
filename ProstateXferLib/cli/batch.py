# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer batch`: many studies with the same options; started again, it goes on where it was stopped."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.cli.study_options import add_study_arguments
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from ProstateXferLib.cohort.engine import CaseOutcome

_LOGGER = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Cases, tasks, models, output."""
    parser.add_argument(
        "manifest",
        type=Path,
        help="a CSV (columns case, t2w, adc, high_b, cbct, reference_ct, reference_segmentation), a folder with one "
        "subfolder for each case (t2w.nii.gz, cbct.nii.gz, ...), or a folder of T2w images",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for all cases")
    add_study_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the cases; exit code 3 when one of them failed."""
    options = StudyOptions.from_arguments(args)
    if problem := options.problem_of_options():
        raise UsageError(problem)
    from ProstateXferLib.cohort.batch import run_batch
    from ProstateXferLib.cohort.manifest import read_manifest

    manifest = read_manifest(args.manifest)
    progress = make_progress(args.json)
    if manifest.unused:
        progress.warn(f"No case uses {', '.join(manifest.unused)} in '{args.manifest}'.")
    result = run_batch(manifest.cases, options, args.output, progress, on_case=_teller(args.json), study=_guarded_study)
    counts = {state: result.count(state) for state in ("done", "skipped", "failed")}
    values = {
        "folder": result.folder,
        **counts,
        "cases": [outcome.to_json() for outcome in result.outcomes],
        "tables": list(result.tables),
    }
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    progress.result(values, text=f"{told}. Research use only – not for clinical decisions. Written: {result.folder}")
    return ExitCode.SOME_CASES_FAILED if counts["failed"] else ExitCode.DONE


def _teller(as_json: bool) -> Callable[["CaseOutcome"], None]:
    """Tells each case's end: one line, as an event or for a person."""

    def event(outcome: "CaseOutcome") -> None:
        print(json.dumps({"event": "case", **outcome.to_json()}, allow_nan=False), flush=True)

    def line(outcome: "CaseOutcome") -> None:
        reason = f"  {outcome.message}" if outcome.message else ""
        # Where the bar is drawn the line would stand behind it; \r and an erased line put it in its place.
        start = "\r\x1b[K" if sys.stderr.isatty() and sys.stdout.isatty() else ""
        print(f"{start}{outcome.case}: {outcome.state} ({outcome.seconds:.1f} s){reason}", flush=True)

    return event if as_json else line


def _guarded_study(*arguments: Any, **options: Any) -> Any:
    """`run_study`, with whatever happens in one case told as that case's failure: the others are waiting."""
    from ProstateXferLib.cohort.study import run_study

    try:
        return run_study(*arguments, **options)
    except ProstateXferError:
        raise
    except Exception as error:
        _LOGGER.debug("unexpected failure of a case", exc_info=True)
        detail = " ".join(str(error).split())
        raise ProstateXferError(f"unexpected {type(error).__name__}: {detail} (run it alone with --debug).") from error
