# SPDX-License-Identifier: Apache-2.0
"""Ends a process with everything it started.

PythonSlicer is a launcher whose child is the real Python: ending the launcher alone would leave that one computing.
"""

import os
import signal
import subprocess
import time

from ProstateXferSlicer.work.process_table import ProcessRow, processRow, processTable

GRACE_S = 0.4
"""How long a process may take to end by itself after it was asked to."""
LIMIT_S = 0.9
"""What is not gone by then hangs inside the system (a driver, a network disk) and is left to it."""
_POLL_S = 0.03


def killTree(pid: int) -> bool:
    """End process `pid` and all its descendants, first politely; blocks for less than a second.

    Returns:
        Whether nothing of them is left.
    """
    killer = TreeKiller(pid)
    killer.begin()
    while not killer.poll():
        if killer.isOverdue():
            return False
        time.sleep(_POLL_S)
    return True


class TreeKiller:
    """The same in steps, for who must not block: `begin()`, then `poll()` every few hundredths of a second."""

    def __init__(self, pid: int) -> None:
        """For the process that has this pid now; a later one with the same pid is left alone."""
        if pid <= 0 or pid == os.getpid():
            raise ValueError(f"{pid} is no child process")
        self._pid = pid
        root = None if os.name == "nt" else processRow(pid)
        self._members = {} if root is None else {pid: root.started}
        # A child that leads a group of its own gives us also those whose parent ended before we looked.
        self._hasGroup = root is not None and root.groupId == pid
        self._asked: set[int] = set()
        self._beganAt = 0.0
        self._taskkill: subprocess.Popen | None = None

    def begin(self) -> None:
        """Ask all of them to end; returns at once."""
        self._beganAt = time.monotonic()
        if os.name == "nt":
            self._taskkill = _taskkill(self._pid)
        else:
            self.poll()

    def poll(self) -> bool:
        """See who is left and go on; True when nobody is."""
        if os.name == "nt":
            return self._taskkill is None or self._taskkill.poll() is not None
        table = processTable()
        if not table:  # `ps` did not answer: no news is no good news
            return False
        self._addDescendants(table)
        left = [pid for pid, started in self._members.items() if _isAlive(table.get(pid), started)]
        isPatient = time.monotonic() - self._beganAt < GRACE_S
        for pid in left:
            # Asked once only: at a second SIGTERM the library drops everything, and with it its tidying up.
            if isPatient and pid not in self._asked:
                _send(pid, signal.SIGTERM)
                self._asked.add(pid)
            elif not isPatient:
                _send(pid, signal.SIGKILL)
        return not left

    def isOverdue(self) -> bool:
        """Whether waiting longer makes no sense."""
        return time.monotonic() - self._beganAt > LIMIT_S

    def _addDescendants(self, table: dict[int, ProcessRow]) -> None:
        leader = table.get(self._pid)
        if leader is not None and leader.started != self._members.get(self._pid):
            self._hasGroup = False  # the pid, and with it the group's number, has passed to a stranger
        found = True
        while found:
            found = [row for row in table.values() if row.pid not in self._members and self._isOurs(row, table)]
            self._members.update({row.pid: row.started for row in found})

    def _isOurs(self, row: ProcessRow, table: dict[int, ProcessRow]) -> bool:
        if row.isZombie or row.pid == os.getpid():
            return False
        if self._hasGroup and row.groupId == self._pid:
            return True
        parent = table.get(row.parentPid)
        return parent is not None and self._members.get(parent.pid) == parent.started


def _isAlive(row: ProcessRow | None, started: str) -> bool:
    # Another start time is another process: the system has given the pid away again.
    return row is not None and row.started == started and not row.isZombie


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:  # gone meanwhile, or it has become another user's (sudo)
        return


def _taskkill(pid: int) -> subprocess.Popen | None:
    """Windows knows no polite way for a program without a window; taskkill walks the tree itself."""
    try:
        return subprocess.Popen(
            ["taskkill", "/PID", str(pid), "/T", "/F"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError:
        _send(pid, signal.SIGTERM)  # on Windows that is TerminateProcess, for the one process
        return None
