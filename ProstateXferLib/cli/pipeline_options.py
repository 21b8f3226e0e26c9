# SPDX-License-Identifier: Apache-2.0
"""Options that every command with a network has."""

import argparse


def add_pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    """--device, --precision and --threads."""
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps (default auto)"
    )
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="number format (default auto)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: PyTorch's choice)")


def set_threads(args: argparse.Namespace) -> None:
    """Apply --threads."""
    if args.threads is None:
        return
    from ProstateXferLib.cli.exit_codes import UsageError

    if args.threads < 1:
        raise UsageError("--threads must be at least 1.")
    import torch

    torch.set_num_threads(args.threads)
