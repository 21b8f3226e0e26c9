# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer ensemble plan`: from the run folders of trained folds to the plan of a selection."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, their data, and where to write the plan."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[ARM=]RUN",
        help="a run folder of 'prostatexfer train --fold K' (OUTPUT.run), and a name where a recipe has several arms",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the plan")
    parser.add_argument("--data", type=Path, help="folder that the recipes' paths are relative to ($PROSTATEXFER_DATA)")


def run(args: argparse.Namespace) -> int:
    """Find the cases that each fold validated, write plan.csv and the references."""
    from ProstateXferLib.files import make_folder, require_folder_of
    from ProstateXferLib.studies.ensemble_selection.plan_file import PLAN_FILE, write_plan
    from ProstateXferLib.studies.ensemble_selection.plan_of_runs import plan_of_runs
    from ProstateXferLib.training.datasets.data_folder import data_root

    require_folder_of(args.output)
    progress = make_progress(args.json)
    folder = make_folder(args.output)
    plan = plan_of_runs([_arm_and_folder(text) for text in args.runs], data_root(args.data), folder)
    path = write_plan(plan, folder / PLAN_FILE)
    candidates = {one.name: len(one.distinct_models) for one in plan.candidates}
    listed = "\n".join(f"{name}: {count} model(s)" for name, count in candidates.items())
    progress.result(
        {"plan": path, "cases": len(plan.cases), "candidates": candidates},
        text=f"{listed}\n{len(plan.cases)} cases, each by the fold that did not see it. Written: {path}",
    )
    return ExitCode.DONE


def _arm_and_folder(text: str) -> tuple[str, Path]:
    """ "" where only a folder is given, whose name may hold a "="."""
    if Path(text).is_dir():
        return "", Path(text)
    arm, sign, folder = text.partition("=")
    if not (sign and arm and folder):
        raise UsageError(f"There is no run folder '{text}': give OUTPUT.run, or ARM=OUTPUT.run.")
    return arm, Path(folder)
