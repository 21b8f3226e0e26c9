# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer weights export`: pack a checkpoint for another centre (docs/exchange.md)."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to pack, and what to say about it."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint (.safetensors) or a model's name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".pxweights to write")
    parser.add_argument("--site", required=True, metavar="NAME", help="this centre; only a hash of the name is written")
    parser.add_argument("--patients", type=int, required=True, metavar="N", help="patients trained on at this centre")
    parser.add_argument("--key", type=Path, metavar="FILE", help="key that the centres share: sign the package with it")


def run(args: argparse.Namespace) -> int:
    """Write the package and say what travels."""
    import dataclasses

    from ProstateXferLib.checkpoints.loading import load_checkpoint
    from ProstateXferLib.training.exchange.export import export_package
    from ProstateXferLib.training.exchange.signature import read_key

    progress = make_progress(args.json)
    key = None if args.key is None else read_key(args.key)
    checkpoint = load_checkpoint(args.checkpoint).path
    record = export_package(checkpoint, args.output, site=args.site, patients=args.patients, key=key)
    text = f"{args.output}\n  site {record.site}, {record.patients} patients, {'signed' if key else 'not signed'}"
    progress.result({"package": args.output, "record": dataclasses.asdict(record)}, text=text)
    return ExitCode.DONE
