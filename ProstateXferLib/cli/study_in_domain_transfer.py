# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study in-domain-transfer`: every chain of sites trained and tested, with the paper's tables."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.studies.in_domain_transfer.training import Train
    from ProstateXferLib.training.recipe.schema import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sites, how much of the protocol, with which network."""
    add_sites(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the study's folder")
    parser.add_argument("--data", type=Path, default=Path(), help="folder that the sites' paths are relative to")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-validation (5)")
    parser.add_argument("--epochs", type=int, help="epochs of every stage instead of the paper's 200")
    parser.add_argument("--longest", type=int, default=2, metavar="N", help="sites before the target at most (2)")
    parser.add_argument("--no-merged", action="store_true", help="leave out the model of all sites together")
    parser.add_argument("--grid", action="store_true", help="also Table II's other networks at the first site")
    parser.add_argument("--architecture", default="unetplusplus", help="unet, unetplusplus, manet or deeplabv3")
    parser.add_argument("--encoder", default="efficientnet-b3", help="efficientnet-b0 to -b3, resnet18, 34 or 50")
    parser.add_argument(
        "--encoder-weights", default="imagenet", help="imagenet, none, or a file of the encoder's ImageNet weights"
    )
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change the recipe's stage"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dry-run", action="store_true", help="list what would be trained and stop")


def add_sites(parser: argparse.ArgumentParser) -> None:
    """Where the sites' cases lie."""
    parser.add_argument(
        "--site",
        dest="sites",
        action="append",
        required=True,
        metavar="NAME=LAYOUT:PATH",
        help="a site's cases (A=cases:folder); A, B, C stand beside the paper's; layouts: prostatexfer data layouts",
    )
    parser.add_argument(
        "--site-option",
        dest="site_options",
        action="append",
        default=[],
        metavar="NAME.KEY=VALUE",
        help="an option of a site's layout (A.site=RUNMC)",
    )


def sites_of(args: argparse.Namespace) -> "dict[str, Source]":
    """The sites by name.

    Raises:
        UsageError: not of the form that the help shows.
    """
    from ProstateXferLib.training.recipe.files import parse_yaml
    from ProstateXferLib.training.recipe.schema import Source

    options: dict[str, dict] = {}
    for text in args.site_options:
        place, equals, value = text.partition("=")
        name, dot, key = place.partition(".")
        if not (equals and dot and name and key):
            raise UsageError(f"--site-option takes NAME.KEY=VALUE, not '{text}'.")
        options.setdefault(name, {})[key] = parse_yaml(value, what=f"The value of --site-option {place}")
    sites = {}
    for text in args.sites:
        name, equals, place = text.partition("=")
        layout, colon, path = place.partition(":")
        if not (equals and colon and name and layout) or name in sites:
            raise UsageError(f"--site takes NAME=LAYOUT:PATH, each name once, not '{text}'.")
        sites[name] = Source(layout, path, options=options.pop(name, {}))
    if options:
        raise UsageError(f"--site-option names '{next(iter(options))}', which is no --site.")
    return sites


def run(args: argparse.Namespace) -> int:
    """Train, test, print the tables."""
    from ProstateXferLib.studies.in_domain_transfer.options import TransferOptions
    from ProstateXferLib.studies.in_domain_transfer.run import planned_routes, run_study
    from ProstateXferLib.studies.in_domain_transfer.writing import markdown

    sites = sites_of(args)
    options = TransferOptions(
        folds=args.folds,
        epochs=args.epochs,
        longest_transfer=args.longest,
        merged=not args.no_merged,
        grid=args.grid,
        architecture=args.architecture,
        encoder=args.encoder,
        encoder_weights=args.encoder_weights,
        changes=tuple(args.changes),
    )
    progress = make_progress(args.json)
    if args.dry_run:
        planned = [plan.folder for plan in planned_routes(sites, options)]
        text = "\n".join([*planned, f"{len(planned)} trainings of {options.folds} folds each"])
        progress.result({"planned": planned, "folds": options.folds}, text=text)
        return ExitCode.DONE
    tables = run_study(
        sites, options, args.output, data=args.data, device=args.device, train=_trainer(args), progress=progress
    )
    progress.result({"folder": args.output}, text=markdown(tables))
    return ExitCode.DONE


def _trainer(args: argparse.Namespace) -> "Train":
    """`run_chain` with what all runs of the study share; prepared cases are kept once for all of them."""
    from functools import partial

    from ProstateXferLib.pipelines.device import resolve_device
    from ProstateXferLib.training.chain import run_chain

    shared = partial(run_chain, data=args.data, device=resolve_device(args.device), cache=args.output / "cache")
    return lambda chain, output, progress: shared(chain, output, progress=progress)
