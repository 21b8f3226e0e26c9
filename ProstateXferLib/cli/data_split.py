# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer data split`: the folds of a data set, as nnU-Net's splits_final.json."""

import argparse
import json
from pathlib import Path

from ProstateXferLib.cli.data_source import add_source, cases_of
from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress

RULES = ("nnunet", "stratified")  # those that make folds; the others of a recipe need no table of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which data set, and how to split it."""
    add_source(parser)
    parser.add_argument("--rule", choices=RULES, default="nnunet", help="how folds are made (default nnunet)")
    parser.add_argument("--folds", type=int, default=5, help="number of folds (default 5)")
    parser.add_argument("--seed", type=int, default=12345, help="seed of the shuffle (default 12345, nnU-Net's)")
    parser.add_argument("--stratify", default="", metavar="ATTRIBUTE", help="balance folds by this (rule stratified)")
    parser.add_argument("--test-share", type=float, default=0.0, help="share of patients held out before (default 0)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write (.json)")


def run(args: argparse.Namespace) -> int:
    """Find the cases and write their folds; those held out as test cases are in none of them."""
    from ProstateXferLib.files import require_folder_of, write_text
    from ProstateXferLib.training.datasets.splits import fold_ids
    from ProstateXferLib.training.recipe.schema import Split

    if (args.rule == "stratified") != bool(args.stratify):
        raise UsageError("--rule stratified and --stratify ATTRIBUTE go together.")
    require_folder_of(args.output)
    progress = make_progress(args.json)
    split = Split(rule=args.rule, folds=args.folds, seed=args.seed, stratify=args.stratify, test_share=args.test_share)
    cases = cases_of(args)
    folds = fold_ids(cases, split)
    splits = [
        {"train": sorted(name for other in folds if other is not fold for name in other), "val": list(fold)}
        for fold in folds
    ]
    test = sorted({case.case_id for case in cases} - {name for fold in folds for name in fold})
    write_text(args.output, json.dumps(splits, indent=2) + "\n")
    sizes = ", ".join(str(len(fold)) for fold in folds)
    told = f"{args.output}: folds of {sizes} cases" + (f"; held out as test cases: {', '.join(test)}" if test else "")
    progress.result({"output": args.output, "folds": splits, "test": test}, text=told)
    return ExitCode.DONE
