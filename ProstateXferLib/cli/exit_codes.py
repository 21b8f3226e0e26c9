# SPDX-License-Identifier: Apache-2.0
"""What a script that runs `prostatexfer` can tell from its exit code."""

from enum import IntEnum

from ProstateXferLib.errors import ProstateXferError


class ExitCode(IntEnum):
    """The five ways a command can end."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    SOME_CASES_FAILED = 3
    CANCELLED = 130


class UsageError(ProstateXferError):
    """Arguments that are well-formed one by one, but do not fit together; ends in `ExitCode.WRONG_USE`."""
