# SPDX-License-Identifier: Apache-2.0
"""What runs inside a cluster job: the `train` command with the processes of the job joined into one training."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ProstateXferLib.errors import ProstateXferError

STOP_SECONDS = 60
"""How long a preempted training may take to save its state before it is killed; what it saved before then stays."""


class TrainJob:
    """A callable for submitit: one process of one training.

    The work runs in a child (`python -m ProstateXferLib train ...`), told by torch's own environment variables which
    process of how many it is, exactly as under torchrun. A job that SLURM preempts or that reaches its time limit is
    put into the queue again and goes on from its run folder.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None

    def __call__(self, words: Sequence[str]) -> list[str]:
        """Run `train` with these words; raises ProstateXferError where it fails, so that the job is marked failed."""
        environment = {**os.environ, **_process_group()}
        self._child = subprocess.Popen([sys.executable, "-m", "ProstateXferLib", "train", *words], env=environment)
        code = self._child.wait()
        self._child = None
        if code:
            raise ProstateXferError(
                f"The training ended with exit code {code}: the job's .err file beside its .out says why."
            )
        return list(words)

    def checkpoint(self, words: Sequence[str]) -> Any:
        """Called by submitit when the job is about to be ended: stop the child, ask to be queued again."""
        from submitit.helpers import DelayedSubmission

        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
        return DelayedSubmission(TrainJob(), words)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing travels with the job but its kind."""
        return {"_child": None}


def _process_group() -> dict[str, str]:
    """RANK, WORLD_SIZE, ... of this process; empty where the job is one process, which needs no group."""
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    if JobEnvironment().num_tasks == 1:
        return {}
    group = TorchDistributedEnvironment()
    return {
        "MASTER_ADDR": group.master_addr,
        "MASTER_PORT": str(group.master_port),
        "RANK": str(group.rank),
        "WORLD_SIZE": str(group.world_size),
        "LOCAL_RANK": str(group.local_rank),
        "LOCAL_WORLD_SIZE": str(group.local_world_size),
    }
