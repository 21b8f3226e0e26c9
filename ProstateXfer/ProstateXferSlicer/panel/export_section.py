# SPDX-License-Identifier: Apache-2.0
"""The section "Export": measurements as CSV, the study as an HTML page; DICOM has its place."""

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ProstateXferSlicer.panel.installer import ensurePackages
from ProstateXferSlicer.panel.messages import showError, shown
from ProstateXferSlicer.scene.subject_hierarchy import dicomOriginMissing
from ProstateXferSlicer.work.job import JobOutcome
from ProstateXferSlicer.work.qt_process import QtProcess


class ExportSection:
    """Three buttons; what cannot be exported says why."""

    def __init__(self, ui: Any, logic: Any) -> None:
        self._ui, self._logic = ui, logic
        self._parameters: Any = None
        self._export: Any = None
        self._isClosed = False
        ui.exportCsvButton.connect("clicked()", self._onCsv)
        ui.exportReportButton.connect("clicked()", self._onReport)

    def setParameters(self, parameters: Any) -> None:
        """Take another parameter node, or None while the scene is closed."""
        self._parameters = parameters

    def show(self) -> None:
        """Enable what can be exported."""
        measured = self._parameters.measurements is not None
        recorded = bool(self._parameters.studyRecord)
        _enable(
            self._ui.exportCsvButton,
            None if measured else _("There are no measurements yet: run Prostate or DIL first"),
            _("Write the table as CSV: one row per structure, the unit in each column's name"),
        )
        problem = None if recorded else _("There are no results yet: run first")
        if self._export is not None:
            problem = _("The report is being written")
        _enable(
            self._ui.exportReportButton,
            problem,
            _("Write one HTML page with figures, tables, methods and provenance; it opens without network"),
        )
        told = [_("DICOM export (SEG, RTSTRUCT, CT series) comes with a later version.")]
        source = self._parameters.t2w or self._parameters.cbct
        missing = None if source is None else dicomOriginMissing(source)
        self._ui.exportDicomButton.toolTip = " ".join([*told, missing or ""]).strip()

    def close(self) -> None:
        """Stop writing the report, if it is being written, and hear no more of it: the widgets go."""
        self._isClosed = True
        if self._export is not None:
            self._export.cancel()

    @shown("The measurements could not be written")
    def _onCsv(self) -> None:
        path = self._askPath(_("Write the measurements"), "measurements.csv", _("Comma-separated values (*.csv)"))
        if path:
            written = self._logic.exportCsv(path, self._parameters)
            self._ui.statusLabel.text = _("Written: {path}").format(path=written)

    @shown("The report could not be written")
    def _onReport(self) -> None:
        ensurePackages("report")
        path = self._askPath(_("Write the report"), "report.html", _("Web page (*.html)"))
        if path:
            self._ui.statusLabel.text = _("The report was not written.")  # as long as nothing better is known
            export = self._logic.exportReport(path, self._parameters, QtProcess(), self._onReportFinished)
            if export.outcome is None:  # else it could not even start
                self._export = export
                self._ui.statusLabel.text = _("Writing the report…")
            self.show()

    def _onReportFinished(self, outcome: JobOutcome) -> None:
        self._export = None
        if self._isClosed:
            return
        if self._parameters is not None:
            self.show()
        if outcome.state == "done":
            path = outcome.result["page"]
            self._ui.statusLabel.text = _("Written: {path}").format(path=path)
            if not slicer.app.testingEnabled():
                qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))
        elif outcome.state == "failed":
            self._ui.statusLabel.text = _("The report was not written.")
            showError(_("The report could not be written"), outcome.error, outcome.logTail)

    @staticmethod
    def _askPath(title: str, name: str, kind: str) -> str:
        return qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name, kind)


def _enable(button: Any, problem: str | None, toolTip: str) -> None:
    button.enabled = problem is None
    button.toolTip = problem or toolTip
