# SPDX-License-Identifier: Apache-2.0
"""Children to run, and what it takes to see what became of them."""

import os
import sys
import threading
import time

from ProstateXferSlicer.work.process_table import processRow

TIMEOUT_S = 20.0

# The child's only argument is a folder, in which it leaves pids for the test.
DEAF_GRANDCHILD = """
import pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
deaf = (
    "import os, pathlib, signal, sys, time\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
    "path = pathlib.Path(sys.argv[1], 'grandchild')\\n"
    "path.with_suffix('.part').write_text(str(os.getpid()))\\n"
    "path.with_suffix('.part').rename(path)\\n"
    "time.sleep(60)\\n"
)
grandchild = subprocess.Popen([sys.executable, "-c", deaf, str(folder)])
print("started", flush=True)
grandchild.wait()
"""


def waitUntil(condition, timeoutS=TIMEOUT_S, pump=None):
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeoutS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        if pump is not None:
            pump()
        time.sleep(0.01)


def isGone(pid: int) -> bool:
    """Whether no process, or a dead one that nobody has asked about, has this pid."""
    row = processRow(pid)
    return row is None or row.isZombie


class Listener:
    """What a process told, in which thread."""

    def __init__(self):
        self.output, self.error, self.ends, self.threads = b"", b"", [], set()

    def onOutput(self, data):
        self.threads.add(threading.current_thread())
        assert not self.ends
        self.output += data

    def onError(self, data):
        self.threads.add(threading.current_thread())
        assert not self.ends
        self.error += data

    def onFinished(self, exitCode, error=""):
        self.threads.add(threading.current_thread())
        self.ends.append((exitCode, error))

    def start(self, process, *command, environment=None):
        """Start `command`, Python code if it is one word, with this as listener."""
        words = command if len(command) > 1 else (sys.executable, "-c", *command)
        process.start(words, environment or dict(os.environ), self.onOutput, self.onError, self.onFinished)
