# SPDX-License-Identifier: Apache-2.0
"""The output of a child with `--json`: events among lines that anything else may have printed."""

import json
from collections.abc import Callable
from typing import Any

from ProstateXferSlicer.work.lines import LineReader


class EventReader:
    """Tells events (JSON objects with a text "event") from log lines (everything else)."""

    def __init__(self, onEvent: Callable[[dict[str, Any]], None], onLogLine: Callable[[str], None]) -> None:
        self._onEvent, self._onLogLine = onEvent, onLogLine
        self._lines = LineReader(self._onLine)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the output, however they are cut."""
        self._lines.feed(data)

    def close(self) -> None:
        """The output has ended: hand on a last line without newline."""
        self._lines.close()

    def _onLine(self, line: str) -> None:
        event = _eventOf(line)
        if event is None:
            self._onLogLine(line)
        else:
            self._onEvent(event)


def _eventOf(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None
