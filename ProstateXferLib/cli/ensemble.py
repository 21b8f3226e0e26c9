# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer ensemble`: several checkpoints as one, with weights given by hand (docs/ensembles.md)."""

import argparse
import math
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who is in it, with what weight, and where to write it."""
    parser.add_argument(
        "members",
        nargs="+",
        metavar="MEMBER[=WEIGHT]",
        help="a checkpoint, an nnU-Net folder or a known model's name, and how much it counts (default 1)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="ensemble to write (.safetensors)")
    parser.add_argument(
        "--average", choices=("probability", "logit"), default="probability", help="what is averaged (probability)"
    )
    parser.add_argument("--name", help="name in the card (default: the file's)")
    parser.add_argument(
        "--copy-members", action="store_true", help="copy members that lie elsewhere into a folder beside it"
    )


def run(args: argparse.Namespace) -> int:
    """Write the small file, print who is in it."""
    from ProstateXferLib.checkpoints.ensemble_card import members_of
    from ProstateXferLib.files import require_folder_of
    from ProstateXferLib.pipelines.ensemble import make_ensemble

    members, weights = zip(*(member_and_weight(text) for text in args.members), strict=True)
    require_folder_of(args.output)
    progress = make_progress(args.json)
    made = make_ensemble(
        args.output, members, weights, average=args.average, name=args.name, copy_members=args.copy_members
    )
    found = members_of(made.card)
    lines = [f"{member.weight:8.4f}  {member.name}  {member.sha256[:12]}  {member.file}" for member in found]
    text = "\n".join(
        [
            f"{made.card.name}: {len(found)} members, averaged by {args.average}.",
            *lines,
            f"Research use only. Written: {args.output}",
        ]
    )
    values = [{"name": m.name, "sha256": m.sha256, "weight": m.weight, "file": m.file} for m in found]
    progress.result(
        {"ensemble": args.output, "sha256": made.sha256, "average": args.average, "members": values}, text=text
    )
    return ExitCode.DONE


def member_and_weight(text: str) -> tuple[str, float]:
    """ "a.safetensors=0.6" is a.safetensors with 0.6; what follows the last "=" counts only if it is a number."""
    member, sign, number = text.rpartition("=")
    try:
        weight = float(number) if sign and not Path(text).exists() else None
    except ValueError:
        weight = None
    if weight is None:
        return text, 1.0
    if not member or not (math.isfinite(weight) and weight > 0):
        raise UsageError(f"'{text}' needs a member and a weight above 0, as a.safetensors=0.6.")
    return member, weight
