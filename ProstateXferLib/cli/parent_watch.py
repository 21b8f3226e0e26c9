# SPDX-License-Identifier: Apache-2.0
"""No orphan computes on: when the application that wants the result has died, this process ends, too.

The application names itself by pid. The parent of this process would not do: with PythonSlicer a launcher lies between,
and it outlives Slicer.
"""

import _thread
import os
import signal
import threading
import time
from pathlib import Path

from ProstateXferLib.cli.exit_codes import ExitCode

PARENT_VARIABLE = "PROSTATEXFER_PARENT_PID"
POLL_S = 2.0
GRACE_S = 3.0
"""How long the work may take to notice that it is to stop, before the process ends without it."""

_SYNCHRONIZE = 0x00100000
_WAIT_TIMEOUT = 258
_NO_SUCH_PROCESS = 87  # ERROR_INVALID_PARAMETER, which is what OpenProcess says then


class _State:
    is_watching = False


def watch_parent() -> None:
    """From now on end this process when the one that PROSTATEXFER_PARENT_PID names has died; once a process.

    Without the variable, or with one that is no pid, nothing happens.
    """
    named = os.environ.get(PARENT_VARIABLE, "")
    if _State.is_watching or not named.isdecimal() or int(named) in (0, os.getpid()):
        return
    _State.is_watching = True
    parent = _WindowsProcess(int(named)) if os.name == "nt" else _PosixProcess(int(named))
    threading.Thread(target=_watch, args=(parent,), name="parent watch", daemon=True).start()


class _PosixProcess:
    """A process, not to be taken for a later one with the same pid where the system tells them apart (Linux)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = self._state_and_start()

    def is_alive(self) -> bool:
        now = self._state_and_start()
        if now is not None:
            # A zombie has died; who should have buried it (process 1 of a container) does not always.
            return now[0] not in "ZX" and (self._began is None or now[1] == self._began[1])
        try:
            os.kill(self._pid, 0)  # signal 0 asks only
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def _state_and_start(self) -> tuple[str, str] | None:
        try:
            text = Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the name in brackets may itself hold brackets
        return fields[0], fields[19]


class _WindowsProcess:
    """A handle: as long as it is open the pid stays with this process, also after its end."""

    def __init__(self, pid: int) -> None:
        import ctypes

        self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        self._kernel.OpenProcess.restype = ctypes.c_void_p
        self._kernel.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        self._handle = self._kernel.OpenProcess(_SYNCHRONIZE, False, pid)
        self._is_known_dead = not self._handle and ctypes.get_last_error() == _NO_SUCH_PROCESS

    def is_alive(self) -> bool:
        if not self._handle:  # not there, or not ours to ask about
            return not self._is_known_dead
        return self._kernel.WaitForSingleObject(self._handle, 0) == _WAIT_TIMEOUT


def _watch(parent: _PosixProcess | _WindowsProcess) -> None:
    while parent.is_alive():
        time.sleep(POLL_S)
    # As Ctrl-C and SIGTERM do, so that half-written files are removed; then whatever is left ends hard.
    _thread.interrupt_main(signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(ExitCode.CANCELLED)
