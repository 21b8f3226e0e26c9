# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer ensemble select`: members and weights chosen by cross-validation, with a report (docs/ensembles.md)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.pipeline_options import add_pipeline_arguments, set_threads
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The plan, what decides, how it is chosen, where it goes."""
    parser.add_argument(
        "plan",
        type=Path,
        help="CSV: candidate, model, case, image, reference[, patient], one row a candidate and case; or its folder",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for ensemble, record and report"
    )
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="kept predictions (default: OUTPUT/predictions)")
    parser.add_argument("--name", default="", help="the ensemble's name in its card (default: the folder's)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that measure ensembles (default 1)")
    parser.add_argument("--tta", action="store_true", help="average every prediction over mirrorings")
    add_pipeline_arguments(parser)
    _add_measures(parser)
    _add_choice(parser)


def run(args: argparse.Namespace) -> int:
    """Choose, write, print the verdict."""
    from ProstateXferLib.evaluation.output import check_output

    check_output(args.output)
    _check_matplotlib()
    options = _options(args)
    if args.jobs < 1:
        raise UsageError("--jobs must be at least 1.")
    set_threads(args)
    from ProstateXferLib.studies.ensemble_selection.output import PREDICTIONS_FOLDER, write_selection
    from ProstateXferLib.studies.ensemble_selection.plan_file import read_plan
    from ProstateXferLib.studies.ensemble_selection.record import members_record
    from ProstateXferLib.studies.ensemble_selection.run import run_selection

    progress = make_progress(args.json)
    plan = read_plan(args.plan)
    work = args.work or args.output / PREDICTIONS_FOLDER
    selection = run_selection(plan, options, work, jobs=args.jobs, progress=progress)
    files = write_selection(selection, args.output, name=args.name)
    nested = selection.nested
    progress.result(
        {
            "folder": args.output,
            "files": files,
            "verdict": nested.verdict,
            "text": str(nested),
            "members": members_record(nested.final),
        },
        text=f"{nested}\nChosen on all cases: {nested.final}\nResearch use only. Written: "
        + ", ".join(str(path) for path in files.values()),
    )
    return ExitCode.DONE


def _add_measures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what decides")
    group.add_argument("--structure", default="", help="whose metrics decide, where the candidates find several")
    group.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="VALUE=NAME",
        help="what values of plain reference label maps mean (default 1=Prostate 2=DIL; a .seg.nrrd knows its own)",
    )
    group.add_argument("--tolerance", type=float, default=5.0, metavar="MM", help="of the NSD (default 5, as PANTHER)")
    group.add_argument(
        "--average", choices=("probability", "logit"), default="probability", help="what is averaged (probability)"
    )
    group.add_argument(
        "--rule", choices=("aggregate", "case"), default="aggregate", help="rank cohort numbers, or case by case"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is chosen")
    group.add_argument(
        "--method", choices=("greedy", "simplex"), default="greedy", help="forward selection, or weights (greedy)"
    )
    group.add_argument("--rounds", type=int, default=20, help="greedy: most candidates added (default 20)")
    group.add_argument("--patience", type=int, default=5, help="greedy: rounds without a better one (default 5)")
    group.add_argument(
        "--boundary", choices=("nsd", "hd95", "masd"), default="nsd", help="the front's second aim beside Dice (nsd)"
    )
    group.add_argument(
        "--trade", type=float, default=0.5, help="simplex: 1 takes the best overlap, 0 the best boundary (default 0.5)"
    )
    group.add_argument("--steps", type=int, default=10, help="simplex: weights are multiples of 1/STEPS (default 10)")
    group.add_argument("--most", type=int, default=300, help="simplex: ensembles measured at most a fold (default 300)")
    group.add_argument("--folds", type=int, default=5, help="outer folds, of whole patients (default 5)")
    group.add_argument("--seed", type=int, default=0, help="of folds, bootstrap and search (default 0)")
    group.add_argument(
        "--baseline",
        type=_names,
        default=(),
        metavar="NAME,NAME,...",
        help="candidates whose equal mean has to be beaten (default: the best five of the cases that choose)",
    )


def _options(args: argparse.Namespace) -> "SelectionOptions":
    from ProstateXferLib.evaluation.label_names import LabelNames
    from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions

    same = ("average", "rule", "method", "rounds", "patience", "boundary", "trade", "steps", "most", "folds", "seed")
    try:
        return SelectionOptions(
            structure=args.structure,
            reference_names=LabelNames.parse(args.names),
            tolerance_mm=args.tolerance,
            baseline=args.baseline,
            device=args.device,
            precision=args.precision,
            tta=args.tta,
            **{name: getattr(args, name) for name in same},
        )
    except ProstateXferError as error:
        raise UsageError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME,NAME,...")
    return names


def _check_matplotlib() -> None:
    """Before hours of work, not after them."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ProstateXferError("The report needs matplotlib, which is not installed: run pip install matplotlib.")
