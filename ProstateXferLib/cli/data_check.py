# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer data check`: the cases in a folder, and what is wrong with them."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.data_source import add_source, cases_of
from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.training.datasets.case import Case
    from ProstateXferLib.training.datasets.integrity import Problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which data set, and how closely to look."""
    add_source(parser)
    parser.add_argument("--files-only", action="store_true", help="find the cases and stop: read no voxels")


def run(args: argparse.Namespace) -> int:
    """Find the cases, read them all, and tell every problem; some bad cases are exit code 3."""
    from ProstateXferLib.training.datasets.integrity import bad_cases, check_cases

    progress = make_progress(args.json)
    cases = cases_of(args)
    problems = [] if args.files_only else check_cases(cases, progress)
    bad = bad_cases(problems)
    values = {
        "cases": len(cases),
        "patients": len({case.patient_id for case in cases}),
        "contents": _contents(cases),
        "problems": [dataclasses.asdict(problem) for problem in problems],
        "bad_cases": bad,
    }
    progress.result(values, text=_text(values, problems, read=not args.files_only))
    return ExitCode.SOME_CASES_FAILED if bad else ExitCode.DONE


def _contents(cases: "Sequence[Case]") -> dict[str, int]:
    """How many cases have each sequence and each structure."""
    counts: dict[str, int] = {}
    for case in cases:
        for name in (*case.images, *case.masks):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _text(values: Mapping[str, Any], problems: "Sequence[Problem]", *, read: bool) -> str:
    lines = [f"{values['cases']} cases of {values['patients']} patients"]
    lines += [f"  {name}: {count}" for name, count in values["contents"].items()]
    if not read:
        return "\n".join(lines)
    width = max((len(problem.case_id) for problem in problems), default=0)
    lines += [f"{p.severity.ljust(7)}  {p.case_id.ljust(width)}  {p.what} {p.advice}" for p in problems]
    bad = len(values["bad_cases"])
    lines.append(f"Not usable as they are: {bad} of {values['cases']} cases." if bad else "No case has an error.")
    return "\n".join(lines)
