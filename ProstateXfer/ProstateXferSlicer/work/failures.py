# SPDX-License-Identifier: Apache-2.0
"""Why a child failed, in one sentence: in its own words, or, where it had no time for any, by its exit code."""

import signal
from collections.abc import Sequence

from ProstateXferLib.cli.exit_codes import ExitCode

_MEMORY_ADVICE = "close other programs, or choose fewer tasks at a time"
# PythonSlicer, the launcher, tells the crash of the real Python in these words, and ends with exit code 1.
_LAUNCHER_SAW_CRASH = "exit abnormally"
# Shells, and some launchers, pass on "ended by signal n" as 128 + n.
_SHELLS_SIGNALS = range(128 + 1, 128 + 65)
_WINDOWS_NO_MEMORY = 0xC0000017


def failureSentence(exitCode: int | None, childsError: str, logTail: Sequence[str]) -> str:
    """One sentence for the user.

    Args:
        exitCode: the child's; -n: ended by signal n.
        childsError: what the child itself said; empty when it said nothing.
        logTail: the last lines it printed, the very last of which often names the cause.
    """
    # This job was not cancelled by the user, so it was somebody else who sent the child the signal.
    if exitCode == ExitCode.CANCELLED:
        return "The computation was stopped from outside: run it again."
    if childsError and exitCode != 0:
        return childsError
    lastLine = f" Its last line was: {logTail[-1]}" if logTail else ""
    if exitCode == 0:
        return f"The computation ended without a result.{lastLine}"
    number = _signalOf(exitCode)
    if number == getattr(signal, "SIGKILL", 9) or _unsigned(exitCode) == _WINDOWS_NO_MEMORY:
        return f"The system ended the computation (signal 9), probably because memory ran out: {_MEMORY_ADVICE}."
    if any(_LAUNCHER_SAW_CRASH in line for line in logTail):
        return f"The computation crashed, maybe because memory ran out: {_MEMORY_ADVICE}."
    if number is not None:
        return f"The computation crashed ({_nameOf(number)}): run it again, on another device if it crashes again."
    if exitCode is not None and _unsigned(exitCode) >= 0xC0000000:  # Windows' codes for crashes
        return (
            f"The computation crashed (code 0x{_unsigned(exitCode):08X}): run it again, on another device if need be."
        )
    return f"The computation ended with exit code {exitCode} and no explanation.{lastLine}"


def _signalOf(exitCode: int | None) -> int | None:
    if exitCode is None:
        return None
    if -65 < exitCode < 0:
        return -exitCode
    return exitCode - 128 if exitCode in _SHELLS_SIGNALS else None


def _nameOf(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


def _unsigned(code: int | None) -> int:
    return 0 if code is None else code & 0xFFFFFFFF
