# SPDX-License-Identifier: Apache-2.0
"""A child process on Qt's event loop: the one for Slicer, where Python threads hardly run.

It is read by a timer and not by QProcess's signals. A signal handler that shows a dialog, or drops the last reference
to its job, would run, or end, with QProcess's own code still below it on the stack; and of the overloaded `finished`,
Qt 5 and Qt 6 have different ones.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import qt

from ProstateXferSlicer.work.process import OnBytes, OnFinished, Pump
from ProstateXferSlicer.work.process_tree import TreeKiller

_TICK_MS = 40
_START_MS = 5000
"""How long the system may take to find out whether there is such a program; commonly a few milliseconds."""


class QtProcess:
    """A `Process` on qt.QProcess; callbacks come from the event loop of the thread that made it, or from `wait`."""

    def __init__(self) -> None:
        self._process: Any = None
        self._onOutput: OnBytes | None = None
        self._onError: OnBytes | None = None
        self._onFinished: OnFinished | None = None
        self._killer: TreeKiller | None = None
        self._startError = ""
        self._isStopping = False
        self._isTicking = False

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        onOutput: OnBytes,
        onError: OnBytes,
        onFinished: OnFinished,
    ) -> None:
        """See `Process`; here `onFinished` never comes before this returns."""
        program, *arguments = command
        process = qt.QProcess()
        process.setProcessEnvironment(_qtEnvironment(environment))
        process.setStandardInputFile(os.devnull)
        process.start(program, arguments)
        # Without this a missing program would look like one that ended at once with exit code 0.
        if process.waitForStarted(_START_MS):
            self._killer = TreeKiller(int(process.processId()))
        else:
            process.kill()
            self._startError = f"'{program}' could not be started: {process.errorString()}."
        self._process = process
        self._onOutput, self._onError, self._onFinished = onOutput, onError, onFinished
        _ticker.add(self)

    def stop(self) -> None:
        """See `Process`."""
        if self.isRunning() and not self._isStopping and self._killer is not None:
            self._isStopping = True
            self._killer.begin()

    def wait(self, pump: Pump | None = None) -> None:
        """See `Process`; works without an event loop."""
        self.tick()
        while self.isRunning():
            if self._process.state() == qt.QProcess.NotRunning:
                time.sleep(_TICK_MS / 1000)  # it has ended, something that it started has not
            else:
                self._process.waitForFinished(_TICK_MS)
            self.tick()
            if pump is not None and self.isRunning():
                pump()

    def isRunning(self) -> bool:
        """See `Process`."""
        return self._onFinished is not None

    def processId(self) -> int | None:
        """See `Process`."""
        return int(self._process.processId()) or None if self.isRunning() else None

    def tick(self) -> None:
        """Hand on what has come, and see whether that was all."""
        if self._isTicking or not self.isRunning():  # a callback ran the event loop
            return
        self._isTicking = True
        try:
            # Before the last bytes are read, or those that come meanwhile would be lost.
            hasEnded = self._process.state() == qt.QProcess.NotRunning
            self._read()
            isGone = not self._isStopping or self._killer.poll()
            if hasEnded and isGone:
                self._finish(*self._exit())
            elif self._isStopping and self._killer.isOverdue():
                self._giveUp(hasEnded)
        finally:
            self._isTicking = False

    def _read(self) -> None:
        for read, callback in (
            (self._process.readAllStandardOutput, self._onOutput),
            (self._process.readAllStandardError, self._onError),
        ):
            data = _bytes(read())
            if data:
                callback(data)

    def _exit(self) -> tuple[int | None, str]:
        if self._startError:
            return None, self._startError
        code = int(self._process.exitCode())
        # Qt on Unix gives the number of the signal as exit code.
        wasSignal = self._process.exitStatus() == qt.QProcess.CrashExit and os.name == "posix"
        return (-code if wasSignal else code), ""

    def _giveUp(self, hasEnded: bool) -> None:
        """Something of the tree hangs inside the system; nobody is to wait for it any longer."""
        if hasEnded:
            self._finish(*self._exit())
            return
        self._process.kill()
        # Without this reference QProcess's destructor would wait half a minute for it.
        _hanging.append(self._process)
        self._finish(None, "The process did not end although it was killed.")

    def _finish(self, exitCode: int | None, error: str) -> None:
        onFinished = self._onFinished
        self._process = self._onOutput = self._onError = self._onFinished = None
        _ticker.remove(self)
        onFinished(exitCode, error)


class _Ticker:
    """One timer for all processes, never deleted: one that dies in its own signal takes the application with it.

    It also keeps the running processes alive, whoever has forgotten them.
    """

    def __init__(self) -> None:
        self._running: list[QtProcess] = []
        self._timer: Any = None

    def add(self, process: QtProcess) -> None:
        """Tick this one from now on."""
        self._running.append(process)
        if self._timer is None:
            self._timer = qt.QTimer()
            self._timer.setInterval(_TICK_MS)
            self._timer.timeout.connect(self._tick)
        self._timer.start()

    def remove(self, process: QtProcess) -> None:
        """No more."""
        self._running.remove(process)
        if not self._running:
            self._timer.stop()

    def _tick(self) -> None:
        for process in tuple(self._running):
            process.tick()


_ticker = _Ticker()
_hanging: list[Any] = []


def _qtEnvironment(environment: Mapping[str, str]) -> Any:
    result = qt.QProcessEnvironment()
    for name, value in environment.items():
        if not _isText(name + value):  # bytes that are no text in this system's encoding, which a QString cannot hold
            continue
        result.insert(name, value)
    return result


def _isText(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _bytes(array: Any) -> bytes:
    """A QByteArray of PythonQt or PySide6."""
    data = array if isinstance(array, bytes) else array.data()
    return data.encode("utf-8", errors="replace") if isinstance(data, str) else bytes(data)
