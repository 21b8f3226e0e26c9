# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study miniature`: the papers' comparison on the data at hand, from self-supervision to the tables."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to keep everything, where the data are, how much is done."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for models and tables"
    )
    parser.add_argument("--data", type=Path, help="folder with promise12/ and real/ ($PROSTATEXFER_DATA)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--folds", type=int, default=5, help="folds that are trained, of five (default 5)")
    parser.add_argument("--steps", type=int, help="end every training after so many steps, to try it out")
    parser.add_argument("--arms", help="only these arms, with commas between them")
    parser.add_argument("--page", type=Path, help="write the page there, too (docs/results.md)")


def run(args: argparse.Namespace) -> int:
    """Train what is missing, score, write the page."""
    from ProstateXferLib.studies.miniature.plan import ARMS
    from ProstateXferLib.studies.miniature.run import Effort
    from ProstateXferLib.studies.miniature.write import run_and_write
    from ProstateXferLib.training.datasets.data_folder import data_root

    known = [arm.name for arm in ARMS]
    arms = tuple(args.arms.split(",")) if args.arms else ()
    if unknown := [name for name in arms if name not in known]:
        raise UsageError(f"There is no arm '{unknown[0]}': the arms are {', '.join(known)}.")
    if not 1 <= args.folds <= 5:
        raise UsageError(f"--folds is from 1 to 5, not {args.folds}.")
    if args.page is not None and not args.page.parent.is_dir():
        raise UsageError(f"The folder '{args.page.parent}' of --page does not exist.")
    progress = make_progress(args.json)
    page = run_and_write(
        args.output,
        Effort(args.folds, args.steps, arms),
        data=data_root(args.data),
        device=args.device,
        page=args.page,
        progress=progress,
    )
    progress.result({"page": page}, text=page.read_text(encoding="utf-8"))
    return ExitCode.DONE
