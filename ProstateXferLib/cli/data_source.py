# SPDX-License-Identifier: Apache-2.0
"""What the `data` commands share: which data set is meant."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ProstateXferLib.training.datasets.case import Case


def add_source(parser: argparse.ArgumentParser) -> None:
    """Layout, folder, and options of the layout."""
    parser.add_argument("layout", metavar="LAYOUT", help="the data set's layout (prostatexfer data layouts)")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it lies")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="KEY=VALUE",
        help="an option of the layout, e.g. site=RUNMC or lesion_values=[3,4,5]; may be given several times",
    )


def cases_of(args: argparse.Namespace) -> "list[Case]":
    """The cases that the words mean; no voxels are read."""
    from ProstateXferLib.training.datasets.registry import find_cases
    from ProstateXferLib.training.recipe.schema import Source

    return find_cases(Source(args.layout, str(args.folder.absolute()), options=dict(args.option)), Path())


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value  # a plain word
