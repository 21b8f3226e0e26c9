# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer export`: write an encoder checkpoint as the .pth file that other DINOv3 programs read."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint and the target."""
    parser.add_argument("checkpoint", help="an encoder: path, or name of a known model")
    parser.add_argument("destination", type=Path, help="file to write (.pth), in the form of MedDINOv3's model.pth")


def run(args: argparse.Namespace) -> int:
    """Export the encoder."""
    from ProstateXferLib.checkpoints.export_teacher import export_teacher
    from ProstateXferLib.checkpoints.registry import resolve

    progress = make_progress(args.json)
    path = export_teacher(resolve(args.checkpoint), args.destination)
    progress.result({"exported": path}, text=str(path))
    return ExitCode.DONE
