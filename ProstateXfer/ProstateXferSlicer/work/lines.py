# SPDX-License-Identifier: Apache-2.0
"""Bytes as they come out of a pipe become lines of text."""

import re
from collections.abc import Callable

# A progress bar rewrites its line with carriage returns and may never send a newline.
_BREAK = re.compile(rb"[\r\n]")
LONGEST_LINE_BYTES = 16 * 2**20
"""A longer line is cut: nothing that the library prints comes near, and memory is not without limit."""
KEPT_OF_CUT_LINE = 1000


class LineReader:
    """Hands on each line once it is complete, without its end; empty lines are left out.

    What is not UTF-8 becomes replacement characters: a library below may print in the system's own encoding.
    """

    def __init__(self, onLine: Callable[[str], None]) -> None:
        self._onLine = onLine
        self._pending = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes; a line, or a character, may be spread over several."""
        first, *others = _BREAK.split(data)
        self._append(first)
        for piece in others:
            self.close()
            self._append(piece)

    def close(self) -> None:
        """Hand on the last line, which may lack its newline."""
        if not self._pending:
            return
        line = bytes(self._pending).decode("utf-8", errors="replace")
        if self._cut:
            line = f"{line[:KEPT_OF_CUT_LINE]}…"
        # Before the call: it may come back here.
        self._pending.clear()
        self._cut = False
        self._onLine(line)

    def _append(self, piece: bytes) -> None:
        room = LONGEST_LINE_BYTES - len(self._pending)
        self._pending += piece[:room]
        self._cut = self._cut or len(piece) > room
