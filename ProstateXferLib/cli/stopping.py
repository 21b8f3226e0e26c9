# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: work that looks at its progress stops at the next check, all other work stops at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class _State:
    polled = False
    """Whether the work in hand looks at `stop_requested` between its steps."""
    requested = False


_state = _State()


def stop_requested() -> bool:
    """Whether the user has asked to stop since `stop_signals` was entered."""
    return _state.requested


def expect_polling() -> None:
    """Say that the work from here on calls `stop_requested`, so that the first signal may wait for it."""
    _state.polled = True


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within this block SIGINT and SIGTERM ask for a stop; a second one stops at once (KeyboardInterrupt)."""
    _state.polled = _state.requested = False
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only, and lets only that one set handlers
        return
    former = {number: signal.signal(number, _on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.polled and not _state.requested:
        _state.requested = True
        # Not print: a handler may interrupt a write to the same buffered stream, which Python answers with an error.
        with suppress(OSError):
            os.write(2, b"\nStopping at the next step; once more to stop at once.\n")
        return
    raise KeyboardInterrupt
