# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer train`: run a training recipe and write the checkpoint it makes."""

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, data, where to put the result."""
    parser.add_argument("recipe", help="a recipe (.yaml), or the name of a shipped one (prostate-dil-small, ...)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write (.safetensors)")
    parser.add_argument("--data", type=Path, help="folder that the recipe's paths are relative to ($PROSTATEXFER_DATA)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--steps", type=int, help="train for so many steps instead of the recipe's")
    parser.add_argument(
        "--score-only", action="store_true", help="train nothing: score OUTPUT anew and renew its card from the recipe"
    )
    parser.add_argument("--dry-run", action="store_true", help="print every value of the recipe and stop")


def run(args: argparse.Namespace) -> int:
    """Read the recipe strictly, then train."""
    from ProstateXferLib.checkpoints.file_format import SUFFIX
    from ProstateXferLib.files import require_folder_of
    from ProstateXferLib.training.cases import data_root
    from ProstateXferLib.training.one_stage_recipe import SegmentationRecipe, load_recipe

    recipe = load_recipe(args.recipe)
    if args.steps is not None:
        if args.steps < 1:
            raise UsageError("--steps must be at least 1.")
        warmup = min(recipe.schedule.warmup_steps, args.steps // 4)
        schedule = dataclasses.replace(recipe.schedule, steps=args.steps, warmup_steps=warmup)
        recipe = dataclasses.replace(recipe, schedule=schedule)
    progress = make_progress(args.json)
    if args.dry_run:
        progress.result({"recipe": dataclasses.asdict(recipe)}, text=_listing(dataclasses.asdict(recipe)))
        return ExitCode.DONE
    if args.output.suffix != SUFFIX:  # now, not after the first thousand steps
        raise UsageError(f"A checkpoint's file name must end in {SUFFIX}; '{args.output.name}' does not.")
    require_folder_of(args.output)
    logging.getLogger("ProstateXferLib.training").setLevel(logging.INFO)
    from ProstateXferLib.pipelines.device import resolve_device

    options = {"data": data_root(args.data), "device": resolve_device(args.device)}
    if args.score_only:
        if isinstance(recipe, SegmentationRecipe):
            from ProstateXferLib.training.segmentation_stage import score_segmentation as score
        else:
            from ProstateXferLib.training.synthesis_stage import score_synthesis as score
        return _show(score(recipe, args.output, **options), progress)
    options["progress"] = progress
    if isinstance(recipe, SegmentationRecipe):
        from ProstateXferLib.training.segmentation_stage import train_segmentation

        path = train_segmentation(recipe, args.output, **options)
    else:
        from ProstateXferLib.training.synthesis_stage import train_synthesis

        path = train_synthesis(recipe, args.output, **options)
    return _show(path, progress)


def _show(path: Path, progress: Any) -> int:
    from ProstateXferLib.checkpoints.loading import load_checkpoint

    card = load_checkpoint(path).card
    scores = "\n".join(f"  {score.metric}, {score.data} (n={score.cases}): {score.value}" for score in card.scores)
    progress.result(
        {"checkpoint": path, "scores": [dataclasses.asdict(s) for s in card.scores]}, text=f"{path}\n{scores}"
    )
    return ExitCode.DONE


def _listing(values: dict, indent: str = "") -> str:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", _listing(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)
