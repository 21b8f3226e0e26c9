# SPDX-License-Identifier: Apache-2.0
"""The section "Run": one button that runs and cancels, how far the run is, and what it says."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ProstateXferSlicer.panel.messages import showError
from ProstateXferSlicer.study_run import StudyOutcome, StudyWatcher
from ProstateXferSlicer.work.remaining_time import RemainingTime

_STEPS = 1000  # of the progress bar


class RunSection(StudyWatcher):
    """Idle it offers to run and says why it cannot; running it shows progress, and its button cancels."""

    def __init__(self, ui: Any, *, onRun: Callable[[], Any], onDone: Callable[[StudyOutcome], None]) -> None:
        """`onRun` starts a run with this section as its watcher and returns what can `cancel()`; None if it did not."""
        self._ui, self._onRun, self._onDone = ui, onRun, onDone
        self._run: Any = None
        self._problem: str | None = None
        self._remaining = RemainingTime()
        self._stopping = self._isClosed = False
        ui.applyButton.connect("clicked()", self._onClicked)

    def isRunning(self) -> bool:
        """Whether a run is under way."""
        return self._run is not None

    def setProblem(self, problem: str | None) -> None:
        """Say why no run can start; None when one can."""
        self._problem = problem
        self._showButton()

    def cancel(self) -> None:
        """Stop the run, if there is one."""
        if self._run is not None and not self._stopping:
            self._stopping = True
            self._ui.statusLabel.text = _("Cancelling…")
            self._showButton()
            self._run.cancel()

    def close(self) -> None:
        """Stop the run, and hear no more of it: the widgets go."""
        self.cancel()
        self._isClosed = True

    def onProgress(self, step: str, fraction: float, message: str) -> None:
        """Move the bar; say the step and the time left."""
        if self._stopping:
            return
        self._ui.progressBar.value = round(_STEPS * fraction)
        self._remaining.update(step, fraction)
        left = self._remaining.text()
        self._ui.statusLabel.text = " · ".join(part for part in (step, message, left) if part)

    def onWarning(self, message: str) -> None:
        """Write it into the log, marked."""
        self.onLog(_("Warning: {message}").format(message=message))

    def onLog(self, line: str) -> None:
        """Append a line."""
        if not self._isClosed:
            self._ui.logTextEdit.appendPlainText(line)

    def onFinished(self, outcome: StudyOutcome) -> None:
        """Back to idle; say how it ended."""
        if self._isClosed:
            return
        self._run, self._stopping = None, False
        self._ui.progressBar.visible = False
        job = outcome.job
        if job.state == "done":
            warnings = outcome.result.warnings
            told = _("Done in {seconds:.0f} s.").format(seconds=outcome.result.seconds)
            self._ui.statusLabel.text = "\n".join([told, *warnings])
        elif job.state == "cancelled":
            self._ui.statusLabel.text = _("Cancelled: the scene is as it was.")
        else:
            self._ui.statusLabel.text = _("Failed: {sentence}").format(sentence=job.error)
        self._showButton()
        self._onDone(outcome)
        if job.state == "failed":
            showError(_("The run failed"), job.error, job.logTail)

    def _onClicked(self) -> None:
        if self._run is not None:
            self.cancel()
            return
        self._ui.logTextEdit.clear()
        self._remaining = RemainingTime()
        self._ui.progressBar.value = 0
        self._ui.progressBar.visible = True
        self._ui.statusLabel.text = self._ui.applyButton.toolTip = _("Handing the images over…")
        # Slicer works off clicks while it asks for packages, installs them and reports errors.
        self._ui.applyButton.enabled = False
        run = self._onRun()
        if run is None:
            self._ui.progressBar.visible = False
            self._ui.statusLabel.text = _("Not started.")
        elif run.outcome is None:  # a child that could not start has finished already
            self._run = run
        self._showButton()

    def _showButton(self) -> None:
        button, running = self._ui.applyButton, self._run is not None
        button.text = _("Cancel") if running else _("Run")
        button.enabled = not self._stopping if running else self._problem is None
        if self._stopping:
            button.toolTip = _("The run is being cancelled")
        elif running:
            button.toolTip = _("Stop the run; the scene stays as it is")
        else:
            button.toolTip = self._problem or _("Run the ticked tasks; Slicer can be used meanwhile")
