# SPDX-License-Identifier: Apache-2.0
"""One fraction for all the steps of a study, which only ever grows."""

from collections.abc import Sequence

from ProstateXferLib.progress import Progress, raise_if_cancelled


class StudyProgress:
    """Hands reports on under the name of the step in hand, on the scale of the whole study; remembers the warnings.

    Args:
        watcher: who watches the study.
        steps: (name, expected work in any unit) in the order in which they come; a step may be absent in the end.
    """

    def __init__(self, watcher: Progress, steps: Sequence[tuple[str, float]]) -> None:
        self._watcher = watcher
        total = sum(work for _, work in steps)
        self._spans: dict[str, tuple[float, float]] = {}
        done = 0.0
        for name, work in steps:
            self._spans[name] = (done / total, (done + work) / total)
            done += work
        self._step, self._shown = steps[0][0], 0.0
        self.warnings: list[str] = []

    def begin(self, step: str) -> None:
        """Go on to a step; raises `CancelledError` when the user has asked to stop."""
        raise_if_cancelled(self)
        self._step = step
        self.update(step, 0.0)

    def finish(self) -> None:
        """Report that all is done."""
        self._shown = 1.0
        self._watcher.update("Done", 1.0)

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Report the fraction of the step in hand; the pipelines' own names of steps are not for people."""
        start, stop = self._spans[self._step]
        self._shown = max(self._shown, start + (stop - start) * min(max(fraction, 0.0), 1.0))
        self._watcher.update(self._step, self._shown, message)

    def warn(self, message: str) -> None:
        """Remember the warning, and pass it on."""
        if message not in self.warnings:
            self.warnings.append(message)
            self._watcher.warn(message)

    def cancelled(self) -> bool:
        """Whether the watcher wants to stop."""
        return self._watcher.cancelled()
