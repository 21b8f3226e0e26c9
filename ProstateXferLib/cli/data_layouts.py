# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer data layouts`: the layouts of data sets that are understood, and the expected tree of one."""

import argparse
import dataclasses

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which layout."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a layout: show its tree, options, licence, citation")


def run(args: argparse.Namespace) -> int:
    """List them, or show one."""
    from ProstateXferLib.training.datasets.registry import LAYOUTS, layout_of

    progress = make_progress(args.json)
    if args.name is None:
        width = max(len(name) for name in LAYOUTS)
        text = "\n".join(f"{layout.name.ljust(width)}  {layout.title}" for layout in LAYOUTS.values())
        progress.result({"layouts": [dataclasses.asdict(layout) for layout in LAYOUTS.values()]}, text=text)
        return ExitCode.DONE
    layout = layout_of(args.name)
    facts = {"licence": layout.licence, "citation": layout.citation, "cases": layout.cases, "where": layout.where}
    lines = [f"{layout.name}: {layout.title}", "", layout.description, ""]
    lines += [f"{name.ljust(9)} {text}" for name, text in facts.items() if text]
    values = dataclasses.asdict(layout) | {"description": layout.description, "options": layout.options}
    progress.result({"layout": values}, text="\n".join(lines))
    return ExitCode.DONE
