# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer federate average`: one round of federated averaging from the sites' packages (docs/exchange.md)."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which packages, and what is averaged."""
    parser.add_argument("packages", type=Path, nargs="+", metavar="FILE", help="weights packages, one a site")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CHECKPOINT", help=".safetensors to write")
    add_batch_norm(parser)
    parser.add_argument(
        "--own", type=Path, metavar="CHECKPOINT", help="whose batch norms are kept, unless they are averaged"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="key that the sites share: all must have signed")


def add_batch_norm(parser: argparse.ArgumentParser) -> None:
    """What of batch norms is averaged."""
    parser.add_argument(
        "--batch-norm",
        default="average",
        choices=("average", "local_statistics", "local"),
        help="batch norms: average them, or keep each site's running statistics, or these and their scales",
    )


def run(args: argparse.Namespace) -> int:
    """Check all packages, average, write."""
    from ProstateXferLib.training.exchange.signature import read_key
    from ProstateXferLib.training.federated.packages import average_packages

    progress = make_progress(args.json)
    key = None if args.key is None else read_key(args.key)
    card = average_packages(args.packages, args.output, batch_norm=args.batch_norm, own=args.own, key=key)
    sites = card.history[-1]["sites"]
    total = sum(site["patients"] for site in sites)
    lines = [f"  {site['site']}  {site['patients']} patients, weight {site['patients'] / total:.3f}" for site in sites]
    progress.result({"checkpoint": args.output, "sites": sites}, text="\n".join([str(args.output), *lines]))
    return ExitCode.DONE
