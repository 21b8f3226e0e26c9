# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer import`: turn a DINOv3, MedDINOv3, DGCF file or an nnU-Net folder into a ProstateXfer checkpoint."""

import argparse
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress

_HINTS = (
    "name", "title", "licence", "citation", "training_data", "eps", "rope_dtype", "structures", "spacing_yx_mm",
    "tile_yx", "blocks", "encoder", "sequence", "encoder_range", "fold", "checkpoint", "inputs",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, the target, and what the file cannot tell."""
    parser.add_argument(
        "source",
        type=Path,
        help=".pth, .pt, .bin, .safetensors or an nnU-Net results folder; nothing in it is executed",
    )
    parser.add_argument("destination", type=Path, help="checkpoint to write (.safetensors)")
    parser.add_argument("--name", help="the model's short name")
    parser.add_argument("--title", help="one line for lists")
    parser.add_argument("--licence", help="licence of the weights")
    parser.add_argument("--citation", help="paper to cite")
    parser.add_argument("--training-data", help="what it was trained on")
    parser.add_argument("--eps", type=float, help="LayerNorm eps (default: what the naming implies)")
    parser.add_argument("--rope-dtype", choices=("fp32", "bf16"), help="dtype of the position tables (likewise)")
    parser.add_argument("--blocks", type=int, nargs="+", help="0-based encoder blocks that are tapped")
    segmentation = parser.add_argument_group("MedDINOv3 segmentation networks (--structures: nnU-Net folders, too)")
    segmentation.add_argument("--structures", nargs="+", help="names of the classes after the background, in order")
    segmentation.add_argument("--spacing-yx-mm", type=float, nargs=2, metavar=("Y", "X"), help="in-plane spacing, mm")
    segmentation.add_argument("--tile-yx", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="tile in pixels")
    nnunet = parser.add_argument_group("nnU-Net results folders (TRAINER__PLANS__CONFIGURATION)")
    nnunet.add_argument("--fold", nargs="+", metavar="N", help="folds to take, or 'all' (default: every numbered one)")
    nnunet.add_argument("--checkpoint", metavar="FILE", help="file of each fold (default checkpoint_final.pth)")
    nnunet.add_argument("--inputs", nargs="+", metavar="SEQUENCE", help="sequences in channel order, e.g. T2w ADC")
    dgcf = parser.add_argument_group("DGCF generators")
    dgcf.add_argument("--encoder", type=Path, help="the DINOv3 file that the generator was trained with")
    dgcf.add_argument("--sequence", choices=("T2w", "CBCT"), help="what is translated (default T2w)")
    dgcf.add_argument(
        "--encoder-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="range fed to the encoder (default 0 2 for T2w, as the reference; -1 1 for CBCT)",
    )


def run(args: argparse.Namespace) -> int:
    """Import and show the card."""
    from ProstateXferLib.checkpoints.importers import import_checkpoint
    from ProstateXferLib.checkpoints.loading import load_checkpoint
    from ProstateXferLib.cli.models import card_text

    progress = make_progress(args.json)
    hints = {hint: getattr(args, hint) for hint in _HINTS if getattr(args, hint) is not None}
    path = import_checkpoint(args.source, args.destination, **hints)
    checkpoint = load_checkpoint(path)
    progress.result({"checkpoint": path, "sha256": checkpoint.sha256}, text=card_text(checkpoint))
    return ExitCode.DONE
