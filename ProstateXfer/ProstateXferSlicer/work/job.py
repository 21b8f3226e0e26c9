# SPDX-License-Identifier: Apache-2.0
"""One command of the library in a child process, from its start to the one outcome."""

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.work.events import EventReader
from ProstateXferSlicer.work.failures import failureSentence
from ProstateXferSlicer.work.lines import LineReader
from ProstateXferSlicer.work.process import Process, Pump, SubprocessProcess
from ProstateXferSlicer.work.python import findPython, libraryCommand

LOG_TAIL_LINES = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended.

    Attributes:
        state: "done" only with a result and exit code 0; "cancelled" whenever the user stopped it, whatever else came.
        result: the child's result event, without "event"; may be there also when it failed (a batch with a bad case).
        error: one sentence for the user; empty when done.
        logTail: the last lines of the log.
        exitCode: -n when ended by signal n; None when the child did not start.
    """

    state: Literal["done", "failed", "cancelled"]
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    logTail: tuple[str, ...] = ()
    exitCode: int | None = None


class JobWatcher:
    """What a job tells; override what interests you. An exception in here is logged, and the job goes on."""

    def onProgress(self, step: str, fraction: float, message: str) -> None:
        """`fraction` (0..1) of the whole is done."""

    def onWarning(self, message: str) -> None:
        """Something the user must know although the work goes on."""

    def onLog(self, line: str) -> None:
        """One line that the child printed, on whichever channel."""

    def onFinished(self, outcome: JobOutcome) -> None:
        """The end: comes once, and last."""


class Job:
    """A child and its watcher, which hears `onFinished` exactly once after `start`, whatever happens."""

    def __init__(
        self,
        words: Sequence[str],
        watcher: JobWatcher,
        process: Process | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """A job that has not started.

        Args:
            words: the command and its arguments; `--json` is added where it is missing.
            watcher: told in the thread that waits or runs the event loop.
            process: a fresh QtProcess for a caller with an event loop; None is a SubprocessProcess, to be waited for.
            environment: variables for the child, in addition to those that it needs.
        """
        self._words = [*words] if "--json" in words else [*words, "--json"]
        self._watcher = watcher
        self._process = SubprocessProcess() if process is None else process
        self._environment = dict(environment or {})
        self._output = EventReader(self._onEvent, self._onLogLine)
        self._errors = LineReader(self._onLogLine)
        self._logTail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._result: dict[str, Any] | None = None
        self._childsError = ""
        self._isStarted = self._isCancelled = False
        self.outcome: JobOutcome | None = None
        """None until the job has ended."""

    def start(self) -> None:
        """Start the child. That it cannot start is told by `onFinished`, which may come in here."""
        if self._isStarted:
            raise RuntimeError("A job runs once: make another.")
        self._isStarted = True
        if self._isCancelled:
            self._onProcessFinished(None)
            return
        try:
            command, environment = libraryCommand(*self._words), {**findPython().environment, **self._environment}
            self._process.start(command, environment, self._output.feed, self._errors.feed, self._onProcessFinished)
        except ProstateXferError as error:
            self._onProcessFinished(None, str(error))
        except Exception as error:  # the edge: whoever started a job waits for its end
            _log.exception("The child could not be started.")
            self._onProcessFinished(None, f"The child process could not be started ({type(error).__name__}: {error}).")

    def cancel(self) -> None:
        """End the child and everything it started; returns at once, the outcome follows within a second."""
        if self.outcome is None and not self._isCancelled:
            self._isCancelled = True
            if self._isStarted:
                self._process.stop()

    def wait(self, pump: Pump | None = None) -> JobOutcome:
        """Block until the end; `pump` is called meanwhile. An exception (Ctrl-C) cancels the job and is raised on."""
        if not self._isStarted:
            raise RuntimeError("A job must be started before it is waited for.")
        try:
            self._process.wait(pump)
        except BaseException:
            self.cancel()
            self._process.wait()
            raise
        return self.outcome

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "progress" and (fraction := _fraction(event.get("fraction"))) is not None:
            if not self._isCancelled:
                step, message = str(event.get("step", "")), str(event.get("message", ""))
                self._tell(self._watcher.onProgress, step, fraction, message)
        elif kind == "warning":
            self._tell(self._watcher.onWarning, str(event.get("message", "")))
        elif kind == "result":
            self._result = {name: value for name, value in event.items() if name != "event"}
        elif kind == "error":
            self._childsError = str(event.get("message", ""))
        else:  # of a library that is newer than this
            self._onLogLine(json.dumps(event, ensure_ascii=False))

    def _onLogLine(self, line: str) -> None:
        self._logTail.append(line)
        self._tell(self._watcher.onLog, line)

    def _onProcessFinished(self, exitCode: int | None, error: str = "") -> None:
        if self.outcome is not None:
            return
        self._output.close()
        self._errors.close()
        logTail, result = tuple(self._logTail), self._result
        # The user's stop first: a child that is stopped ends as if it had crashed, or has just finished.
        if self._isCancelled:
            state, sentence = "cancelled", "Cancelled."
        elif exitCode == 0 and result is not None:
            state, sentence = "done", ""
        else:
            state, sentence = "failed", error or failureSentence(exitCode, self._childsError, logTail)
        self.outcome = JobOutcome(state, result or {}, sentence, logTail, exitCode)
        self._tell(self._watcher.onFinished, self.outcome)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:  # the edge: a fault in a panel must not cost the run its end
            _log.exception("%s failed.", getattr(callback, "__qualname__", callback))


def _fraction(value: Any) -> float | None:
    """A fraction between 0 and 1; None where the child sent no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), 1.0)
