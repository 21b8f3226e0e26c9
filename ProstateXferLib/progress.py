# SPDX-License-Identifier: Apache-2.0
"""How long work reports where it is and learns that it should stop."""

from typing import Protocol

from ProstateXferLib.errors import CancelledError


class Progress(Protocol):
    """What a pipeline needs from whoever watches it: a progress bar, a JSON stream, a Qt panel, a test."""

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Report that `step` ("segment", "synthesize", "train", ...) is `fraction` (0..1) done."""

    def warn(self, message: str) -> None:
        """Tell the user something they must know although the work goes on (a fallback that was taken)."""

    def cancelled(self) -> bool:
        """Whether the user has asked to stop."""


class SilentProgress:
    """Progress for scripts that do not watch; warnings still reach Python's `warnings`."""

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Ignore the report."""

    def warn(self, message: str) -> None:
        """Hand the message to `warnings`, so that a fallback is never silent."""
        import warnings

        warnings.warn(message, stacklevel=3)

    def cancelled(self) -> bool:
        """Never cancelled."""
        return False


class SubProgress:
    """A part of a longer job: maps 0..1 of the part onto `start`..`stop` of the whole."""

    def __init__(self, whole: Progress, start: float, stop: float) -> None:
        self._whole, self._start, self._stop = whole, start, stop

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Report the part's fraction on the scale of the whole job."""
        self._whole.update(step, self._start + (self._stop - self._start) * fraction, message)

    def warn(self, message: str) -> None:
        """Pass the warning on."""
        self._whole.warn(message)

    def cancelled(self) -> bool:
        """Whether the whole job was cancelled."""
        return self._whole.cancelled()


def raise_if_cancelled(progress: Progress) -> None:
    """Raise `CancelledError` when the user has asked to stop; called between network batches."""
    if progress.cancelled():
        raise CancelledError("Cancelled: nothing was written.")
