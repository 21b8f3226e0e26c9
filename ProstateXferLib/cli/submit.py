# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer submit`: the same as `train`, on a cluster."""

import argparse
from pathlib import Path
from typing import Any

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.progress import make_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a job asks for, then `--` and the words of `train`."""
    parser.usage = "prostatexfer submit [options] -- RECIPE -o OUTPUT [options of train]"
    parser.add_argument("words", nargs="+", metavar="WORD", help="after --: what follows `prostatexfer train`")
    parser.add_argument("--cluster", default="slurm", help="slurm, or local: processes on this machine, for trying out")
    parser.add_argument(
        "--folds", help="train several folds, one job each: 0,1,2,3,4; {fold} in WORDs becomes the number"
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines of one training (default 1)")
    parser.add_argument("--processes", type=int, default=1, help="processes on each, one a GPU (default 1)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs on each (default 1; 0 trains on CPUs)")
    parser.add_argument("--cpus", type=int, default=4, help="cores for each process (default 4)")
    parser.add_argument("--memory-gb", type=float, default=32.0, help="memory on each machine (default 32)")
    parser.add_argument(
        "--hours", type=float, default=24.0, help="time limit; a training that reaches it is queued again"
    )
    parser.add_argument("--partition", default="", help="SLURM's partition")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="any other option of sbatch")
    parser.add_argument("--logs", type=Path, default=Path("slurm-logs"), help="folder for the jobs' output")
    parser.add_argument("--wait", action="store_true", help="wait for the jobs; exit code 1 where one failed")


def run(args: argparse.Namespace) -> int:
    """Queue the jobs, and say their numbers."""
    from ProstateXferLib.training.cluster.submission import Resources, submit, words_of_folds

    resources = Resources(
        cluster=args.cluster,
        nodes=args.nodes,
        processes=args.processes,
        gpus=args.gpus,
        cpus=args.cpus,
        memory_gb=args.memory_gb,
        hours=args.hours,
        partition=args.partition,
        extra=dict(_pair(option) for option in args.option),
    )
    trainings = words_of_folds(args.words, _folds(args.folds))
    jobs = submit(trainings, resources, logs=args.logs, name=f"prostatexfer-{Path(args.words[0]).stem}")
    progress = make_progress(args.json)
    failed = [job.job_id for job in jobs if not _succeeded(job)] if args.wait else []
    state = f"; failed: {', '.join(failed)}" if failed else ""
    numbers = [job.job_id for job in jobs]
    text = f"{len(jobs)} job(s) on {resources.cluster}: {', '.join(numbers)}{state}. Output: {args.logs}"
    progress.result({"jobs": numbers, "failed": failed, "logs": args.logs}, text=text)
    return ExitCode.FAILED if failed else ExitCode.DONE


def _succeeded(job: Any) -> bool:
    return job.exception() is None


def _folds(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(f"--folds takes numbers with commas between them, 0,1,2,3,4; not '{text}'.") from error


def _pair(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not (key and equals):
        raise UsageError(f"--option takes KEY=VALUE, not '{option}'.")
    return key, value
