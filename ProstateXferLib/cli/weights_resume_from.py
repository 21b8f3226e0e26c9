# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer weights resume-from`: a package from another centre as the checkpoint to train on from."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From which package to which checkpoint."""
    parser.add_argument("package", type=Path, metavar="FILE", help="a weights package (.pxweights)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CHECKPOINT", help=".safetensors to write")
    parser.add_argument("--key", type=Path, metavar="FILE", help="key that the centres share, to check the signature")


def run(args: argparse.Namespace) -> int:
    """Check everything, then unpack."""
    from ProstateXferLib.training.exchange.resume import resume_from
    from ProstateXferLib.training.exchange.signature import read_key

    progress = make_progress(args.json)
    verification = resume_from(args.package, args.output, key=None if args.key is None else read_key(args.key))
    record = verification.record
    text = f"{args.output}\n  {record.model}, from site {record.site} ({record.patients} patients)"
    progress.result({"checkpoint": args.output, "sha256": record.model_sha256, "site": record.site}, text=text)
    return ExitCode.DONE
