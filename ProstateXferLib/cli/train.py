# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer train`: train a checkpoint by a recipe, stage by stage."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recipe, data, where to put the result, and what to change for this run."""
    parser.add_argument("recipe", help="a recipe (.yaml), or the name of one (shipped/prostate-dil-small, ...)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write (.safetensors)")
    parser.add_argument("--data", type=Path, help="folder that the recipe's paths are relative to ($PROSTATEXFER_DATA)")
    parser.add_argument(
        "--run", type=Path, dest="run_folder", metavar="RUN", help="folder for state and stages (default: OUTPUT.run)"
    )
    parser.add_argument(
        "--cache", type=Path, help="folder for prepared data, to share between runs ($PROSTATEXFER_CACHE)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--devices", type=int, help="processes on this machine, one a GPU (default 1)")
    parser.add_argument("--nodes", type=int, help="machines; they are started by torchrun or prostatexfer submit")
    parser.add_argument("--fold", type=int, help="fold that validates, in every stage whose split has folds")
    parser.add_argument("--steps", type=int, help="end every stage after so many steps, its schedule compressed")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="change one value of the recipe: stages.NAME.loop.batch_size=4; may be repeated",
    )
    parser.add_argument("--restart", action="store_true", help="forget what the run folder holds and begin anew")
    parser.add_argument(
        "--score-only", action="store_true", help="train nothing: score OUTPUT anew and renew its card from the recipe"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show every value of the recipe (and with --data the cases, steps and parameters) and stop",
    )


def run(args: argparse.Namespace) -> int:
    """Read the recipe strictly, then train, here or in several processes."""
    from ProstateXferLib.checkpoints.file_format import SUFFIX
    from ProstateXferLib.files import require_folder_of
    from ProstateXferLib.training.engine.fabric import Processes
    from ProstateXferLib.training.recipe.reading import read_recipe

    for name in ("steps", "devices", "nodes"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1.")
    if args.output.suffix != SUFFIX:  # now, not after the first thousand steps
        raise UsageError(f"A checkpoint's file name must end in {SUFFIX}; '{args.output.name}' does not.")
    chain = read_recipe(args.recipe, changes=args.changes, fold=args.fold, steps=args.steps)
    processes = Processes.of_environment()
    progress = make_progress(args.json) if processes.rank == 0 else _Silent(make_progress(args.json))
    if args.dry_run:
        return _show_recipe(chain, args, progress)
    require_folder_of(args.output)
    if _needs_processes(args, processes.count, processes.local_count, processes.nodes):
        from ProstateXferLib.training.engine.launch import run_in_processes

        run_in_processes(_words(args), args.devices, progress)
        return ExitCode.DONE
    return _train(chain, args, progress, first=processes.rank == 0)


def _train(chain: Any, args: argparse.Namespace, progress: Any, *, first: bool) -> int:
    from ProstateXferLib.pipelines.device import resolve_device
    from ProstateXferLib.training.chain import run_chain, score_chain
    from ProstateXferLib.training.datasets.data_folder import data_root

    options = {
        "data": data_root(args.data),
        "device": resolve_device(args.device),
        "run_folder": args.run_folder,
        "cache": args.cache,
        "progress": progress,
    }
    if args.score_only:
        path = score_chain(chain, args.output, **options)
    else:
        path = run_chain(chain, args.output, restart=args.restart, **options)
    return _show_result(path, progress) if first else ExitCode.DONE


def _needs_processes(args: argparse.Namespace, count: int, local_count: int, nodes: int) -> bool:
    """Whether this process has to start others instead of training itself."""
    if count > 1:
        if args.score_only:
            raise UsageError("--score-only works in one process: start it without torchrun.")
        if (args.nodes or nodes) != nodes or (args.devices or local_count) != local_count:
            raise UsageError(
                f"{nodes} machine(s) with {local_count} process(es) each were started: leave --nodes and --devices out."
            )
        return False
    if (args.nodes or 1) > 1:
        raise UsageError(
            f"--nodes {args.nodes}: start the command on every machine with torchrun --nnodes={args.nodes} --module "
            "ProstateXferLib train ..., or queue it with prostatexfer submit."
        )
    several = (args.devices or 1) > 1
    if several and args.score_only:
        raise UsageError("--score-only works in one process: leave --devices out.")
    if several and ":" in args.device:
        raise UsageError(f"--devices {args.devices} takes the first GPUs: give --device cuda, not {args.device}.")
    return several


def _words(args: argparse.Namespace) -> list[str]:
    """The command line of every process that this one starts."""
    words = ["train", str(args.recipe), "--output", str(args.output), "--device", args.device]
    options = {name: getattr(args, name) for name in ("data", "cache", "fold", "steps")} | {"run": args.run_folder}
    words += [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    words += [word for change in args.changes for word in ("--set", change)]
    return words + [f"--{name}" for name in ("restart", "json") if getattr(args, name)]


def _show_recipe(chain: Any, args: argparse.Namespace, progress: Any) -> int:
    from ProstateXferLib.training.chain import default_run_folder
    from ProstateXferLib.training.datasets.data_folder import DATA_VARIABLE, data_root
    from ProstateXferLib.training.outline import outline_chain
    from ProstateXferLib.training.recipe.listing import outline_text, recipe_text
    from ProstateXferLib.training.recipe.reading import resolved

    text, found = recipe_text(chain), None
    if args.data is not None or os.environ.get(DATA_VARIABLE):
        folder = args.run_folder or default_run_folder(args.output)
        found = outline_chain(chain, data=data_root(args.data), run_folder=folder, progress=progress)
        text += f"\n{outline_text(found)}"
    progress.result({"recipe": resolved(chain), "stages": found}, text=text)
    return ExitCode.DONE


def _show_result(path: Path, progress: Any) -> int:
    from ProstateXferLib.checkpoints.loading import load_checkpoint

    card = load_checkpoint(path).card
    scores = "\n".join(f"  {score.metric}, {score.data} (n={score.cases}): {score.value}" for score in card.scores)
    progress.result(
        {"checkpoint": path, "scores": [dataclasses.asdict(s) for s in card.scores]}, text=f"{path}\n{scores}"
    )
    return ExitCode.DONE


class _Silent:
    """Progress of all processes but the first: it only knows whether to stop."""

    def __init__(self, spoken: Any) -> None:
        self._spoken = spoken

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """The first process tells it."""

    def warn(self, message: str) -> None:
        """Warnings are told by every process: each has its own device."""
        self._spoken.warn(message)

    def cancelled(self) -> bool:
        """Whether Ctrl-C or SIGTERM came."""
        return self._spoken.cancelled()
