# SPDX-License-Identifier: Apache-2.0
"""Who runs on this machine and who started whom, on Linux and macOS, without psutil (Slicer does not ship it)."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PS = ("ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart=")
_PS_TIMEOUT_S = 0.5


@dataclass(frozen=True)
class ProcessRow:
    """One process. `started` tells it from a later one to which the system gives the same pid."""

    pid: int
    parentPid: int
    groupId: int
    started: str
    isZombie: bool
    """It has ended, and its parent has not asked yet how."""


def processTable() -> dict[int, ProcessRow]:
    """The processes that this one may see, by pid."""
    rows = _rowsOfProc() if _hasProc() else _rowsOfPs()
    return {row.pid: row for row in rows}


def processRow(pid: int) -> ProcessRow | None:
    """One process; None when there is none."""
    return _rowOfProc(str(pid)) if _hasProc() else processTable().get(pid)


def _hasProc() -> bool:
    return (_PROC / "self" / "stat").exists()


def _rowsOfProc() -> list[ProcessRow]:
    names = os.listdir(_PROC)  # noqa: PTH208 - names are all that is wanted, many times a second
    return [row for name in names if name.isdigit() and (row := _rowOfProc(name)) is not None]


def _rowOfProc(name: str) -> ProcessRow | None:
    try:
        text = (_PROC / name / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return None
    # "pid (command) state ppid pgrp … starttime …", and the command may hold blanks and brackets.
    fields = text.rpartition(")")[2].split()
    state, parentPid, groupId, started = fields[0], fields[1], fields[2], fields[19]
    return ProcessRow(int(name), int(parentPid), int(groupId), started, state in "ZX")


def _rowsOfPs() -> list[ProcessRow]:
    try:
        done = subprocess.run(
            _PS,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            timeout=_PS_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = []
    for line in done.stdout.splitlines():
        pid, parentPid, groupId, state, started = line.split(None, 4)
        rows.append(ProcessRow(int(pid), int(parentPid), int(groupId), started.strip(), state.startswith("Z")))
    return rows
