# SPDX-License-Identifier: Apache-2.0
"""How a command shows what it does: a bar and sentences for a person, one JSON object a line for a program."""

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, TextIO

from ProstateXferLib.cli.stopping import expect_polling, stop_requested

BAR_CELLS = 24
# A log file wants a line now and then, not one a slice: whatever comes first of these two.
PLAIN_STEP = 0.1
PLAIN_SECONDS = 30.0
REDRAW_SECONDS = 0.1


class ConsoleProgress:
    """A progress bar with the time left on stderr; plain lines where stderr is not a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on_terminal = self._stream.isatty()
        self._step = ""
        self._began_s = self._shown_s = 0.0
        self._began_fraction = 0.0  # a step may be a part of a longer job and begin in its middle
        self._shown_fraction = -1.0
        self._bar_open = False

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Draw the bar again, or print a line when enough has happened since the last one."""
        now_s = time.monotonic()
        fraction = min(max(fraction, 0.0), 1.0)
        if step != self._step or fraction < self._shown_fraction:
            self._close_bar()
            self._step, self._began_s, self._shown_fraction, self._shown_s = step, now_s, -1.0, 0.0
            self._began_fraction = fraction
        if not self._is_due(fraction, now_s):
            return
        text = f"{step} {fraction:4.0%}{self._time_left(fraction, now_s)}{f'  {message}' if message else ''}"
        if self._on_terminal:
            self._draw(text, fraction)
        else:
            print(text, file=self._stream, flush=True)
        self._shown_fraction, self._shown_s = fraction, now_s

    def warn(self, message: str) -> None:
        """Print the warning on a line of its own."""
        self._close_bar()
        print(f"Warning: {message}", file=self._stream, flush=True)

    def cancelled(self) -> bool:
        """Whether Ctrl-C or SIGTERM came."""
        return stop_requested()

    def result(self, values: Mapping[str, Any], text: str = "") -> None:
        """Print `text`, the person's form of the result, on stdout."""
        self._close_bar()
        if text:
            print(text, flush=True)

    def _is_due(self, fraction: float, now_s: float) -> bool:
        if self._shown_fraction < 0 or (fraction >= 1 > self._shown_fraction):
            return True
        if self._on_terminal:
            return now_s - self._shown_s >= REDRAW_SECONDS
        return fraction - self._shown_fraction >= PLAIN_STEP or now_s - self._shown_s >= PLAIN_SECONDS

    def _time_left(self, fraction: float, now_s: float) -> str:
        elapsed_s, done = now_s - self._began_s, fraction - self._began_fraction
        if not (done > 0 and fraction < 1) or elapsed_s < 1:
            return ""
        left_s = round(elapsed_s * (1 - fraction) / done)
        return f"  {left_s // 60}:{left_s % 60:02d} left" if left_s else ""

    def _draw(self, text: str, fraction: float) -> None:
        filled = round(BAR_CELLS * fraction)
        line = f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] {text}"
        # One column short: a full line would wrap, and the next \r would return to the wrong one.
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{line[:width]}", end="", file=self._stream, flush=True)
        self._bar_open = True
        if fraction >= 1:
            self._close_bar()

    def _close_bar(self) -> None:
        if self._bar_open:
            print(file=self._stream, flush=True)
            self._bar_open = False


class JsonProgress:
    """One JSON object a line on stdout, for the Slicer module and for scripts."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Emit {"event": "progress", "step", "fraction", "message"}."""
        self._emit("progress", step=step, fraction=round(float(fraction), 4), message=message)

    def warn(self, message: str) -> None:
        """Emit {"event": "warning", "message"}."""
        self._emit("warning", message=message)

    def cancelled(self) -> bool:
        """Whether Ctrl-C or SIGTERM came."""
        return stop_requested()

    def result(self, values: Mapping[str, Any], text: str = "") -> None:
        """Emit {"event": "result", **values}."""
        self._emit("result", **values)

    def error(self, message: str, exit_code: int) -> None:
        """Emit {"event": "error", "message", "exit_code"}; the last line of a run that failed."""
        self._emit("error", message=message, exit_code=int(exit_code))

    def _emit(self, event: str, **values: Any) -> None:
        print(json.dumps(_jsonable({"event": event, **values}), allow_nan=False), file=self._stream, flush=True)


def make_progress(as_json: bool) -> ConsoleProgress | JsonProgress:
    """The progress for `args.json`; from here on Ctrl-C waits for the work to look at `cancelled()`."""
    expect_polling()
    return JsonProgress() if as_json else ConsoleProgress()


def _jsonable(value: Any) -> Any:
    """JSON has no paths, NumPy scalars, NaN or infinity: text, Python numbers and null stand for them."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing NumPy
        return _jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
