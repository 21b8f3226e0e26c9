# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer federate server`: average what several sites train, over Flower (docs/exchange.md)."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.federate_average import add_batch_norm
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is averaged, with whom, and how the sites reach it."""
    parser.add_argument("start", metavar="CHECKPOINT", help="what all sites start from: a file or a model's name")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CHECKPOINT", help=".safetensors to write")
    parser.add_argument("--rounds", type=int, required=True, metavar="N", help="number of rounds")
    parser.add_argument(
        "--sites", type=int, required=True, metavar="N", help="sites that a round waits for and must have at least"
    )
    add_batch_norm(parser)
    parser.add_argument("--address", default="0.0.0.0:8000", metavar="HOST:PORT", help="where to listen (0.0.0.0:8000)")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="the server's certificate, also for 127.0.0.1")
    parser.add_argument("--private-key", type=Path, metavar="PEM", help="its private key")
    add_protection(parser)
    parser.add_argument("--connect-minutes", type=float, default=60, help="how long to wait for the sites (60)")
    parser.add_argument("--round-minutes", type=float, default=720, help="how long a round may take (720)")


def add_protection(parser: argparse.ArgumentParser) -> None:
    """TLS and the shared key."""
    parser.add_argument("--ca-certificate", type=Path, metavar="PEM", help="certificate of who signed the server's")
    parser.add_argument("--insecure", action="store_true", help="no TLS: for tries on 127.0.0.1 only")
    parser.add_argument("--key", type=Path, metavar="FILE", help="key that server and sites share")


def run(args: argparse.Namespace) -> int:
    """Start Flower's SuperLink, run all rounds, end it."""
    from ProstateXferLib.checkpoints.loading import load_checkpoint
    from ProstateXferLib.training.exchange.signature import read_key
    from ProstateXferLib.training.federated.flower.programs import require_flower
    from ProstateXferLib.training.federated.flower.server import Listening, run_server
    from ProstateXferLib.training.federated.flower.settings import ServerSettings

    require_flower()
    progress = make_progress(args.json)
    if args.key is not None:
        read_key(args.key)  # now, not when the first site has answered
    output = args.output.resolve()
    settings = ServerSettings(
        start=str(load_checkpoint(args.start).path.resolve()),
        output=str(output),
        folder=str(output.with_suffix(".run")),
        rounds=args.rounds,
        minimum_sites=args.sites,
        batch_norm=args.batch_norm,
        key=absolute(args.key),
        connect_s=60 * args.connect_minutes,
        round_s=60 * args.round_minutes,
    )
    listening = Listening(
        args.address,
        certificate=args.certificate and args.certificate.resolve(),
        private_key=args.private_key and args.private_key.resolve(),
        authority=args.ca_certificate and args.ca_certificate.resolve(),
        insecure=args.insecure,
    )
    run_server(settings, listening, progress)
    progress.result({"checkpoint": args.output}, text=str(args.output))
    return ExitCode.DONE


def absolute(path: Path | None) -> str | None:
    """For processes that run in another folder."""
    return None if path is None else str(path.resolve())
