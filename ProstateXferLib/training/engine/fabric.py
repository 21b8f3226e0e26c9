# SPDX-License-Identifier: Apache-2.0
"""Devices, number formats and processes: everything in which one process on a CPU differs from many on GPUs."""

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from ProstateXferLib.errors import ProstateXferError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_FABRIC_NAMES = {"bf16": "bf16-mixed", "fp16": "16-mixed"}
# The first process validates and scores alone, and prepares data first; the others wait for it.
_LONGEST_WAIT = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together (torchrun's environment variables)."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.count // self.local_count

    @classmethod
    def of_environment(cls) -> "Processes":
        """What torchrun (or a cluster job) has said; one process alone where nothing was said.

        Raises:
            ProstateXferError: the variables do not fit together.
        """
        if "WORLD_SIZE" not in os.environ:
            return cls()
        try:
            rank, count, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
            local_count = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        except (KeyError, ValueError) as error:
            raise ProstateXferError(
                "RANK, WORLD_SIZE and LOCAL_RANK must all be numbers: start the processes with torchrun."
            ) from error
        if not (0 <= rank < count and 0 <= local_rank < local_count) or count % local_count:
            raise ProstateXferError(
                f"RANK {rank} of WORLD_SIZE {count} with LOCAL_RANK {local_rank} of {local_count} cannot be: start as "
                "many processes on every machine."
            )
        return cls(rank, count, local_rank, local_count)


def make_fabric(device: torch.device, precision: str) -> "Fabric":
    """The Fabric of this process; where there are several they are joined (nccl on CUDA, gloo on the CPU).

    Args:
        device: of a process alone; of several only its type counts, each takes the GPU of its local number.
        precision: "fp32", "bf16" or "fp16" (mixed, the latter with a scaler).

    Raises:
        ProstateXferError: fp16 without a GPU, or fewer GPUs than processes on this machine.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process on stderr
    processes = Processes.of_environment()
    if precision == "fp16" and device.type == "cpu":
        # Fabric would take bf16 instead and say so in a log.
        raise ProstateXferError("The precision fp16 needs a GPU: set loop.precision to fp32 or bf16.")
    if device.type == "cuda" and processes.local_count > torch.cuda.device_count():
        raise ProstateXferError(
            f"There are {processes.local_count} processes and {torch.cuda.device_count()} GPU(s) on this machine: "
            "start one process a GPU."
        )
    if processes.count == 1:
        devices: Any = [device.index or 0] if device.type == "cuda" else 1
        strategy, environment = "auto", LightningEnvironment()
    else:
        devices, strategy, environment = processes.local_count, _ddp(device), TorchElasticEnvironment()
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=processes.nodes,
        strategy=strategy,
        plugins=[environment, _precision(precision, device)],
    )
    fabric.launch()
    return fabric


def _ddp(device: torch.device) -> Any:
    from lightning_fabric.strategies import DDPStrategy

    return DDPStrategy(
        process_group_backend="nccl" if device.type == "cuda" else "gloo",
        timeout=_LONGEST_WAIT,
        # A head whose structure is annotated in no sample of a batch gets no gradient in that step.
        find_unused_parameters=True,
    )


def _precision(name: str, device: torch.device) -> Any:
    from lightning_fabric.plugins.precision import MixedPrecision, Precision

    class Autocast(MixedPrecision):
        """Mixed precision that leaves inputs alone: a target rounded to bf16 would be another target."""

        def convert_input(self, data: Any) -> Any:
            return data

    return Precision() if name == "fp32" else Autocast(_FABRIC_NAMES[name], device=device.type)


def sum_over_processes(values: dict[str, float], fabric: "Fabric") -> dict[str, float]:
    """Sums of values by name over all processes; a name that only some know counts, too."""
    if fabric.world_size == 1:
        return values
    gathered: list[dict[str, float]] = [{}] * fabric.world_size
    torch.distributed.all_gather_object(gathered, values)
    total: dict[str, float] = {}
    for part in gathered:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total
