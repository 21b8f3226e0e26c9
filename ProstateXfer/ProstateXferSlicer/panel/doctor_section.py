# SPDX-License-Identifier: Apache-2.0
"""The self-check: what `prostatexfer doctor` finds in the Python that runs the models."""

from typing import Any

from slicer.i18n import tr as _

from ProstateXferLib.cli.doctor import as_text
from ProstateXferSlicer.panel.messages import shown
from ProstateXferSlicer.work.job import Job, JobOutcome, JobWatcher
from ProstateXferSlicer.work.qt_process import QtProcess


class DoctorSection(JobWatcher):
    """A button, and the text below it; the check runs in a child, as the models do, so it sees what they see."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._job: Job | None = None
        self._lines: list[str] = []
        self._isClosed = False
        ui.doctorButton.connect("clicked()", self._onClicked)

    def close(self) -> None:
        """Stop the check, if there is one, and hear no more of it: the widgets go."""
        self._isClosed = True
        if self._job is not None:
            self._job.cancel()

    def onLog(self, line: str) -> None:
        """Collect what is printed."""
        self._lines.append(line)

    def onFinished(self, outcome: JobOutcome) -> None:
        """Show the findings; what is missing stands at their end, with what to do."""
        self._job = None
        if self._isClosed:
            return
        # A check that found something missing ends as failed, with its findings.
        text = as_text(outcome.result) if outcome.result else "\n".join([*self._lines, outcome.error])
        self._ui.doctorTextEdit.setPlainText(text.strip())
        self._ui.doctorButton.enabled = True
        self._ui.doctorButton.toolTip = _("Tells device, memory, versions and models found, and what is missing")

    @shown("The check could not start")
    def _onClicked(self) -> None:
        self._lines = []
        self._ui.doctorTextEdit.visible = True
        self._ui.doctorTextEdit.setPlainText(_("Checking…"))
        self._ui.doctorButton.enabled = False
        self._ui.doctorButton.toolTip = _("The check is under way")
        self._job = Job(["doctor", "--json"], self, QtProcess())
        self._job.start()
