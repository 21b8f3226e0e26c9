# SPDX-License-Identifier: Apache-2.0
"""Wait for what the processes behind Flower tell."""

import subprocess
import time
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.federated.flower.events import DONE, FAILURE, WARNING, read_events

_POLL_S = 0.5


def wait_until_done(folder: Path, process: subprocess.Popen, log: Path, *, progress: Progress, grace_s: float) -> None:
    """Pass on rounds and warnings until the run is done.

    Args:
        folder: of the run, where events are told.
        process: Flower's program, which must not end before.
        log: named when it does.
        progress: told them; asked whether to stop.
        grace_s: seconds for Flower to deliver the last answer.

    Raises:
        ProstateXferError: the failure that was told, or the program has ended.
        CancelledError: the user stopped; started again, finished rounds are kept.
    """
    known = 0
    while True:
        raise_if_cancelled(progress)
        gone = process.poll() is not None  # before reading: what it told last must not be missed
        events = read_events(folder, known)
        known += len(events)
        for event in events:
            if event.kind == WARNING:
                progress.warn(event.text)
            elif event.kind in (FAILURE, DONE):
                time.sleep(grace_s)
                if event.kind == FAILURE:
                    raise ProstateXferError(event.text)
                return
            else:
                progress.update("federate", event.finished / event.rounds, event.text)
        if gone:
            raise ProstateXferError(f"Flower's program ended before the run was done: its log '{log}' says why.")
        time.sleep(_POLL_S)
