# SPDX-License-Identifier: Apache-2.0
"""Handing trainings to a cluster: SLURM, or this machine in SLURM's place (`local`, for trying it out)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder
from ProstateXferLib.training.cluster.job import TrainJob

CLUSTERS = ("slurm", "local")
FOLD = "{fold}"


@dataclass(frozen=True)
class Resources:
    """What one training asks the cluster for.

    Attributes:
        cluster: "slurm", or "local" for processes on this machine.
        nodes: machines.
        processes: processes per node, one for each GPU.
        gpus: GPUs per node; 0 trains on CPUs.
        cpus: cores per process.
        memory_gb: per node.
        hours: time limit; a training that reaches it is queued again and goes on.
        partition: SLURM's partition, where it must be named.
        extra: further options of SLURM's own, e.g. {"account": "uro"}.
    """

    cluster: str = "slurm"
    nodes: int = 1
    processes: int = 1
    gpus: int = 1
    cpus: int = 4
    memory_gb: float = 32.0
    hours: float = 24.0
    partition: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cluster not in CLUSTERS:
            raise ProstateXferError(f"The cluster '{self.cluster}' is none of {', '.join(CLUSTERS)}.")
        if min(self.nodes, self.processes, self.cpus) < 1 or self.gpus < 0 or min(self.memory_gb, self.hours) <= 0:
            raise ProstateXferError("A job needs at least one node, process and core, some memory and some time.")
        if self.cluster == "local" and self.nodes > 1:
            raise ProstateXferError("The cluster 'local' is this machine alone: give --nodes 1.")


def words_of_folds(words: Sequence[str], folds: Sequence[int]) -> list[list[str]]:
    """One training's words for each fold, `{fold}` replaced and `--fold N` appended; without folds, one training.

    Raises:
        ProstateXferError: several folds would write the same file.
    """
    if not folds:
        return [list(words)]
    if len(folds) > 1 and not any(FOLD in word for word in words):
        raise ProstateXferError(
            f"{len(folds)} folds would all write the same file: put {FOLD} into its name, -o fold-{FOLD}.safetensors."
        )
    return [[*(word.replace(FOLD, str(fold)) for word in words), "--fold", str(fold)] for fold in folds]


def submit(trainings: Sequence[Sequence[str]], resources: Resources, *, logs: Path, name: str) -> list[Any]:
    """Queue one job for each training, as one array.

    Args:
        trainings: the words after `prostatexfer train` of each.
        resources: what each asks for.
        logs: folder for submitit's files and the jobs' output; all nodes must see it.
        name: the job's name in the queue.

    Returns:
        submitit's jobs, in the order of `trainings`.

    Raises:
        ProstateXferError: no SLURM on this machine, or a request that it cannot take.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(make_folder(logs), cluster=resources.cluster)
        executor.update_parameters(**_parameters(resources, name))
    except (RuntimeError, NameError, TypeError, ValueError) as error:  # submitit has no class of its own for these
        raise ProstateXferError(
            f"The job cannot be queued on '{resources.cluster}' ({error}): run this where sbatch is installed, or use "
            "--cluster local."
        ) from error
    try:
        return executor.map_array(TrainJob(), [list(words) for words in trainings])
    except submitit.core.utils.FailedJobError as error:
        raise ProstateXferError(
            f"SLURM refused the job ({' '.join(str(error).split())}): correct the request."
        ) from error


def _parameters(resources: Resources, name: str) -> dict[str, Any]:
    parameters = {
        "name": name,
        "nodes": resources.nodes,
        "tasks_per_node": resources.processes,
        "gpus_per_node": resources.gpus,
        "cpus_per_task": resources.cpus,
        "mem_gb": resources.memory_gb,
        "timeout_min": max(1, round(resources.hours * 60)),
    }
    if resources.cluster == "slurm":
        parameters |= {f"slurm_{key}": value for key, value in resources.extra.items()}
        if resources.partition:
            parameters["slurm_partition"] = resources.partition
    return parameters
