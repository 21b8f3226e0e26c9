# SPDX-License-Identifier: Apache-2.0
"""The one exception a user ever reads."""


class ProstateXferError(Exception):
    """Something the user can act on.

    The message is one sentence that says what is wrong and what to do about it; it is shown as it is in the
    Slicer panel and on stderr, so it names files and values, never Python objects.
    """


class CancelledError(ProstateXferError):
    """The user asked to stop; nothing was written. The command line turns it into exit code 130."""
