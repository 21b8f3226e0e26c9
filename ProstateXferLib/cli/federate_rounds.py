# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer federate rounds`: federated averaging of sites whose cases lie on one machine (docs/exchange.md)."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.federate_average import add_batch_norm
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.cli.study_in_domain_transfer import add_sites, sites_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, sites, rounds."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe of one stage: what a site trains in a round")
    add_sites(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the rounds' folder")
    parser.add_argument("--start", required=True, metavar="CHECKPOINT", help="what all sites start from")
    parser.add_argument("--rounds", type=int, required=True, metavar="N", help="number of rounds")
    add_batch_norm(parser)
    parser.add_argument("--data", type=Path, default=Path(), help="folder that the sites' paths are relative to")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change the recipe"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def run(args: argparse.Namespace) -> int:
    """Train and average, round by round."""
    from functools import partial

    from ProstateXferLib.checkpoints.loading import load_checkpoint
    from ProstateXferLib.pipelines.device import resolve_device
    from ProstateXferLib.training.chain import run_chain
    from ProstateXferLib.training.federated.rounds import RoundOptions, run_rounds
    from ProstateXferLib.training.federated.sites import find_sites
    from ProstateXferLib.training.recipe.reading import read_recipe

    progress = make_progress(args.json)
    options = RoundOptions(args.rounds, batch_norm=args.batch_norm)
    chain, start = read_recipe(args.recipe, changes=args.changes), load_checkpoint(args.start).path
    sites = find_sites(sites_of(args), chain, args.data)
    shared = partial(run_chain, data=args.data, device=resolve_device(args.device), cache=args.output / "cache")
    ends = run_rounds(
        chain,
        sites,
        start,
        args.output,
        options=options,
        train=lambda recipe, output, part: shared(recipe, output, progress=part),
        progress=progress,
    )
    text = "\n".join(f"{site.name}  {site.patients} patients  {ends[site.name]}" for site in sites)
    progress.result({"checkpoints": ends}, text=text)
    return ExitCode.DONE
