# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer federate site`: train on this site's cases for a server that averages (docs/exchange.md)."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.federate_server import absolute, add_protection
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.cli.study_in_domain_transfer import add_sites, sites_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, this site's cases, where the server is."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe of one stage: what the site trains in a round")
    add_sites(parser)
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="where the server listens")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CHECKPOINT", help=".safetensors to write")
    parser.add_argument("--data", type=Path, help="folder that the cases' path is relative to ($PROSTATEXFER_DATA)")
    add_protection(parser)
    parser.add_argument("--wait-minutes", type=float, default=60, help="how long to try to reach the server (60)")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change the recipe"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def run(args: argparse.Namespace) -> int:
    """Count the patients, start Flower's SuperNode, train when asked, end it when the result has come."""
    import dataclasses

    from ProstateXferLib.cli.exit_codes import UsageError
    from ProstateXferLib.pipelines.device import resolve_device
    from ProstateXferLib.training.datasets.data_folder import data_root
    from ProstateXferLib.training.exchange.signature import read_key
    from ProstateXferLib.training.federated.flower.programs import require_flower
    from ProstateXferLib.training.federated.flower.settings import SiteSettings
    from ProstateXferLib.training.federated.flower.site import Connection, run_site
    from ProstateXferLib.training.federated.rounds import require_one_stage
    from ProstateXferLib.training.federated.sites import find_sites
    from ProstateXferLib.training.recipe.reading import read_recipe

    require_flower()
    progress = make_progress(args.json)
    sources = sites_of(args)
    if len(sources) != 1:
        raise UsageError("A site takes part for itself: give --site once.")
    if args.key is not None:
        read_key(args.key)  # now, not when the server asks
    resolve_device(args.device)
    chain, data, output = read_recipe(args.recipe, changes=args.changes), data_root(args.data), args.output.resolve()
    require_one_stage(chain)
    (site,) = find_sites(sources, chain, data)
    recipe = Path(args.recipe)
    settings = SiteSettings(
        recipe=str(recipe.resolve() if recipe.is_file() else recipe),
        name=site.name,
        source=dataclasses.asdict(site.source),
        patients=site.patients,
        data=str(data.resolve()),
        output=str(output),
        folder=str(output.with_suffix(".run")),
        changes=args.changes,
        key=absolute(args.key),
        device=args.device,
    )
    run_site(settings, Connection(args.server, args.ca_certificate, args.insecure, 60 * args.wait_minutes), progress)
    progress.result({"checkpoint": args.output, "patients": site.patients}, text=str(args.output))
    return ExitCode.DONE
