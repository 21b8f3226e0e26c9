# SPDX-License-Identifier: Apache-2.0
"""A child process as a job sees it, and one for callers without an event loop: a batch, a test, a script that waits."""

import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Protocol

from ProstateXferSlicer.work.process_tree import TreeKiller

OnBytes = Callable[[bytes], None]
OnFinished = Callable[[int | None, str], None]
"""Exit code (-n: ended by signal n; None: there is none) and, where there is none, a sentence that says why."""
Pump = Callable[[], None]

_CHUNK_BYTES = 65536
_LONGEST_QUEUE = 256
"""Chunks. A child that prints faster than it is listened to has to wait, as with any pipe."""
_WAIT_S = 0.03
_LINGER_S = 1.0
"""How long the pipes of an ended child may stay open: something it left behind may hold them forever."""


class Process(Protocol):
    """One child, once. All callbacks come in the thread that runs the event loop or `wait`, never in another."""

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        onOutput: OnBytes,
        onError: OnBytes,
        onFinished: OnFinished,
    ) -> None:
        """Start it. `onFinished` comes once and last, also when there is no such program; it may come in here."""

    def stop(self) -> None:
        """End it and everything it started; returns at once, `onFinished` follows within a second."""

    def wait(self, pump: Pump | None = None) -> None:
        """Block until `onFinished` has come; `pump` is called meanwhile, many times a second."""

    def isRunning(self) -> bool:
        """Whether it was started and `onFinished` has not come yet."""

    def processId(self) -> int | None:
        """The pid of the child; None before and after."""


class SubprocessProcess:
    """A `Process` on `subprocess`. Nothing happens unless somebody calls `wait` or, now and then, `poll`."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None
        self._chunks: queue.Queue[tuple[OnBytes, bytes]] = queue.Queue(_LONGEST_QUEUE)
        self._readers: list[threading.Thread] = []
        self._killer: TreeKiller | None = None
        self._killing: threading.Thread | None = None
        self._onFinished: OnFinished | None = None
        self._endedAt: float | None = None

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        onOutput: OnBytes,
        onError: OnBytes,
        onFinished: OnFinished,
    ) -> None:
        """See `Process`; a program that is missing is told in here."""
        try:
            self._child = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                # Its own group, by which also its orphans are found. Ctrl-C in a terminal then reaches this process
                # alone, which stops the child.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            onFinished(None, f"'{command[0]}' could not be started: {getattr(error, 'strerror', None) or error}.")
            return
        self._onFinished = onFinished
        self._killer = TreeKiller(self._child.pid)
        for stream, callback in ((self._child.stdout, onOutput), (self._child.stderr, onError)):
            reader = threading.Thread(target=self._read, args=(stream, callback), daemon=True)
            self._readers.append(reader)
            reader.start()

    def stop(self) -> None:
        """See `Process`."""
        if not self.isRunning() or self._killing is not None:
            return
        self._killer.begin()
        # Not a daemon: an interpreter that ends meanwhile must not leave the work half done.
        self._killing = threading.Thread(target=_finishKilling, args=(self._killer, self._child))
        self._killing.start()

    def wait(self, pump: Pump | None = None) -> None:
        """See `Process`."""
        pumpedAt = 0.0
        while self.isRunning():
            self._advance(_WAIT_S)
            if pump is not None and time.monotonic() - pumpedAt >= _WAIT_S:
                pump()
                pumpedAt = time.monotonic()

    def poll(self) -> bool:
        """Hand on what has come, without waiting for more; whether the child is still running."""
        self._advance(0)
        return self.isRunning()

    def isRunning(self) -> bool:
        """See `Process`."""
        return self._onFinished is not None

    def processId(self) -> int | None:
        """See `Process`."""
        return self._child.pid if self.isRunning() else None

    def _read(self, stream: IO[bytes], callback: OnBytes) -> None:
        """In a thread of its own: Windows has no other way to read two pipes at a time."""
        with stream:
            while data := stream.read(_CHUNK_BYTES):
                self._chunks.put((callback, data))

    def _advance(self, timeoutS: float) -> None:
        """Hand on all chunks there are, the first of which may take a moment to come; then see whether that was all."""
        if not self.isRunning():
            return
        isOver = self._isOver()  # before the last chunks are taken, or those put meanwhile would be lost
        try:
            callback, data = self._chunks.get(block=not isOver and timeoutS > 0, timeout=timeoutS)
            callback(data)
            for _ in range(_LONGEST_QUEUE):
                callback, data = self._chunks.get_nowait()
                callback(data)
        except queue.Empty:
            if isOver and self.isRunning():
                onFinished, self._onFinished = self._onFinished, None
                onFinished(self._child.returncode, "")

    def _isOver(self) -> bool:
        if self._child.poll() is None or (self._killing is not None and self._killing.is_alive()):
            return self._isHopeless()
        now = time.monotonic()
        self._endedAt = self._endedAt or now
        return not any(reader.is_alive() for reader in self._readers) or now - self._endedAt > _LINGER_S

    def _isHopeless(self) -> bool:
        """Stopped in vain: the system does not let go of the child."""
        return self._killing is not None and not self._killing.is_alive() and self._child.poll() is None


def _finishKilling(killer: TreeKiller, child: subprocess.Popen) -> None:
    while not killer.poll() and not killer.isOverdue():
        time.sleep(_WAIT_S)
    with suppress(OSError):
        child.kill()  # a no-op unless the tree could not be read
