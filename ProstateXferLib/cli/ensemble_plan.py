# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer ensemble plan`: from trained folds, ours or nnU-Net's, to the plan of a selection."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.studies.ensemble_selection.held_out import HeldOut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, their data, and where to write the plan."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[ARM=]FOLDER",
        help="a run folder of 'prostatexfer train --fold K' (OUTPUT.run), or the folder of an nnU-Net v2 with all its "
        "folds (TRAINER__PLANS__CONFIGURATION); and a name where a recipe has several arms",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the plan")
    parser.add_argument("--data", type=Path, help="folder that the recipes' paths are relative to ($PROSTATEXFER_DATA)")
    group = parser.add_argument_group("nnU-Nets")
    group.add_argument(
        "--nnunet-raw",
        type=Path,
        metavar="FOLDER",
        help="the data set that they were trained on (default: $nnUNet_raw/DatasetNNN_NAME)",
    )
    group.add_argument(
        "--nnunet-splits",
        type=Path,
        metavar="FILE",
        help="splits_final.json, where the folders fold_K/validation are empty "
        "(default: $nnUNet_preprocessed/DatasetNNN_NAME/splits_final.json)",
    )


def run(args: argparse.Namespace) -> int:
    """Find the cases that each fold validated, write plan.csv and the references."""
    from ProstateXferLib.files import make_folder, require_folder_of
    from ProstateXferLib.studies.ensemble_selection.held_out import joined_plan
    from ProstateXferLib.studies.ensemble_selection.plan_file import PLAN_FILE, write_plan

    require_folder_of(args.output)
    progress = make_progress(args.json)
    sources = _sources(args)
    for source in sources:
        for warning in source.warnings:
            progress.warn(warning)
    folder = make_folder(args.output)
    plan = joined_plan(sources, folder)
    path = write_plan(plan, folder / PLAN_FILE)
    candidates = {one.name: len(one.distinct_models) for one in plan.candidates}
    listed = "\n".join(f"{name}: {count} model(s)" for name, count in candidates.items())
    word = "" if all(source.recorded for source in sources) else " (of nnU-Nets by their own word, which has no record)"
    progress.result(
        {"plan": path, "cases": len(plan.cases), "candidates": candidates},
        text=f"{listed}\n{len(plan.cases)} cases, each by the fold that did not see it{word}. Written: {path}",
    )
    return ExitCode.DONE


def _sources(args: argparse.Namespace) -> "list[HeldOut]":
    """Our runs together, then each nnU-Net."""
    from ProstateXferLib.checkpoints.nnunet_folder import is_nnunet_fold, is_nnunet_folder
    from ProstateXferLib.studies.ensemble_selection.held_out_of_nnunet import held_out_of_nnunet
    from ProstateXferLib.studies.ensemble_selection.plan_of_runs import held_out_of_runs
    from ProstateXferLib.training.datasets.data_folder import data_root

    runs, nnunets = [], []
    for arm, folder in map(_arm_and_folder, args.runs):
        foreign = is_nnunet_folder(folder) or is_nnunet_fold(folder)
        (nnunets if foreign else runs).append((arm, folder))
    if not nnunets and (args.nnunet_raw or args.nnunet_splits):
        raise UsageError("--nnunet-raw and --nnunet-splits are of nnU-Net folders, and none was given.")
    ours = [held_out_of_runs(runs, data_root(args.data))] if runs else []
    given = {"raw": args.nnunet_raw, "splits": args.nnunet_splits}
    return [*ours, *(held_out_of_nnunet(folder, arm, **given) for arm, folder in nnunets)]


def _arm_and_folder(text: str) -> tuple[str, Path]:
    """ "" where only a folder is given, whose name may hold a "="."""
    if Path(text).is_dir():
        return "", Path(text)
    arm, sign, folder = text.partition("=")
    if not (sign and arm and folder):
        raise UsageError(f"There is no folder '{text}': give OUTPUT.run, an nnU-Net's folder, or ARM=FOLDER.")
    return arm, Path(folder)
