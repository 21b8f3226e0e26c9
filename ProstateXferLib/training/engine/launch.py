# SPDX-License-Identifier: Apache-2.0
"""Several processes on this machine, one a GPU: the same command again, under torchrun."""

import signal
import subprocess
import sys
from collections.abc import Sequence

from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.progress import Progress

_POLL_S = 0.2


def torchrun_command(words: Sequence[str], devices: int) -> list[str]:
    """The command that starts `prostatexfer WORDS` in `devices` processes that know of each other."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    return [*torchrun, "--module", "ProstateXferLib", *words]


def run_in_processes(words: Sequence[str], devices: int, progress: Progress) -> None:
    """Run `prostatexfer WORDS` in `devices` processes and wait for them; they write to this process's output.

    Raises:
        ProstateXferError: a process failed; it has said why.
        CancelledError: the user stopped; the processes have saved their state.
    """
    # A session of its own: Ctrl-C shall reach the processes once, through torchrun, and not twice.
    child = subprocess.Popen(torchrun_command(words, devices), start_new_session=True)
    stopped = False
    try:
        while child.poll() is None:
            if progress.cancelled() and not stopped:
                stopped = True
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if child.poll() is None:  # this process is being stopped at once
            child.terminate()
            child.wait()
    if stopped:
        raise CancelledError("Cancelled: run the same command again to go on from there.")
    if child.returncode:
        raise ProstateXferError(f"One of the {devices} processes failed: what it wrote above says why.")
