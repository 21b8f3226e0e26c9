# SPDX-License-Identifier: Apache-2.0
"""The section "Results": the table, what the views show, measuring again after an edit."""

from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.progress import SilentProgress
from ProstateXferSlicer.panel.calibration_lines import calibrationOfModels
from ProstateXferSlicer.panel.ct_errors import errorsOfCts
from ProstateXferSlicer.panel.messages import shown
from ProstateXferSlicer.panel.results_table import ResultsTable
from ProstateXferSlicer.scene.display import showCtWindow
from ProstateXferSlicer.scene.parameters import measurementsOf, runHadSamples
from ProstateXferSlicer.scene.segment_events import segmentationEvents
from ProstateXferSlicer.scene.segmentations import createClosedSurface, removeClosedSurface
from ProstateXferSlicer.scene.views import centreSlices, fitSlices, isShownIn3D, showChart, showInSlices

_NO_RANGE = "The ranges of volume and the “Seen by” of the run hold no more and are not shown."
_NO_RESULTS = "There are no results yet: run first"
# Button -> (parameter that must hold a node, tooltip, why it is missing).
_BUTTONS = {
    "remeasureButton": (
        "segmentation",
        "Measure the segments as they are now, edits in the Segment Editor included",
        "There is no segmentation yet: run Prostate or DIL first",
    ),
    "show3DButton": (
        "segmentation",
        "Show the surfaces in the 3-D view (smoothed; volumes are counted in voxels)",
        "There is no segmentation yet: run Prostate or DIL first",
    ),
    "showChartButton": (
        "volumesChart",
        "Plot the volume of every structure, cm³",
        "There are no measurements yet: run Prostate or DIL first",
    ),
    "showInputButton": ("measuredImage", "Show the T2w with the outlines", _NO_RESULTS),
    "showUncertaintyButton": (
        "uncertaintyMap",
        "Lay the uncertainty over the T2w: entropy of the probabilities, 0 bit is sure, 1 bit is undecided",
        "There is no uncertainty map: tick it under Advanced, then run Prostate or DIL",
    ),
    "showSamplesButton": (
        "samples",
        "Lay over the slices, thinly, what each member of the ensemble, fold or mirrored image found alone",
        "There is nothing to show: an ensemble, a model of several folds, or averaging over mirrored images, with "
        "Uncertainty ticked under Advanced, makes samples",
    ),
    "showCtFromMrButton": (
        "syntheticCtFromMr",
        "Show the synthetic CT made from the MR, HU",
        "There is no CT from MR: tick that task and run",
    ),
    "showCtFromCbctButton": (
        "syntheticCtFromCbct",
        "Show the synthetic CT made from the cone-beam CT, HU",
        "There is no CT from CBCT: tick that task and run",
    ),
    "showDifferenceFromMrButton": (
        "differenceFromMr",
        "Lay over the CT from MR its difference from the reference CT, HU: red is too dense, blue not dense enough",
        "There is no difference: choose a reference CT and run CT from MR",
    ),
    "showDifferenceFromCbctButton": (
        "differenceFromCbct",
        "Lay over the CT from CBCT its difference from the reference CT, HU: red is too dense, blue not dense enough",
        "There is no difference: choose a reference CT and run CT from CBCT",
    ),
}
_WINDOWS = ("soft tissue", "bone")  # in the order of ctWindowComboBox


class ResultsSection(VTKObservationMixin):
    """Shows the nodes of the last run; follows edits of its segmentation."""

    def __init__(self, ui: Any, logic: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._logic = ui, logic
        self._parameters: Any = None
        self._segmentation: Any = None
        self._table = ResultsTable(ui.resultsTable, self._onRow)
        ui.remeasureButton.connect("clicked()", self._onRemeasure)
        ui.show3DButton.connect("clicked()", self._on3D)
        ui.showChartButton.connect("clicked()", self._onChart)
        ui.showInputButton.connect("clicked()", self._onInput)
        ui.showUncertaintyButton.connect("clicked()", self._onUncertainty)
        ui.showSamplesButton.connect("clicked()", self._onSamples)
        ui.showCtFromMrButton.connect("clicked()", self._onCtFromMr)
        ui.showCtFromCbctButton.connect("clicked()", self._onCtFromCbct)
        ui.showDifferenceFromMrButton.connect("clicked()", self._onDifferenceFromMr)
        ui.showDifferenceFromCbctButton.connect("clicked()", self._onDifferenceFromCbct)
        ui.ctWindowComboBox.connect("currentIndexChanged(int)", self._onCtWindow)

    def setParameters(self, parameters: Any) -> None:
        """Take another parameter node, or None while the scene is closed."""
        self._parameters = parameters
        if parameters is None:
            self._follow(None)
            self._table.show([])

    def close(self) -> None:
        """Stop following the segmentation."""
        self._follow(None)

    def show(self) -> None:
        """Bring table and buttons in line with the parameter node."""
        self._follow(self._parameters.segmentation)
        for name, (parameter, toolTip, problem) in _BUTTONS.items():
            button, node = getattr(self._ui, name), getattr(self._parameters, parameter)
            button.enabled = node is not None
            button.toolTip = _(problem) if node is None else _(toolTip)
        segmentation = self._parameters.segmentation
        self._ui.show3DButton.checked = segmentation is not None and isShownIn3D(segmentation)
        samples = self._parameters.samples
        self._ui.showSamplesButton.checked = samples is not None and bool(samples.GetDisplayVisibility())
        rows = measurementsOf(self._parameters)
        self._table.show(rows, self._colors())
        self._ui.resultsLabel.text = self._state(rows)

    def showNew(self, nodes: Any) -> None:
        """Show what a run has just made: segments over the T2w, else the first synthetic CT in the chosen window."""
        self._onCtWindow()
        if nodes.segmentation is not None:
            showInSlices(self._parameters.measuredImage)
        elif nodes.syntheticCtFromMr is not None or nodes.syntheticCtFromCbct is not None:
            showInSlices(nodes.syntheticCtFromMr or nodes.syntheticCtFromCbct)
        fitSlices()

    def _state(self, rows: Sequence[Measurement]) -> str:
        return "\n".join(
            [self._stateOfRows(rows), *errorsOfCts(self._parameters), *calibrationOfModels(self._parameters)]
        )

    def _stateOfRows(self, rows: Sequence[Measurement]) -> str:
        if self._parameters.edited:
            told = _("The segmentation was edited after the run. Press “Measure again” after each edit.")
            return f"{told} {_(_NO_RANGE)}" if runHadSamples(self._parameters) else told
        if rows:
            return _("Click a row to centre the slice views. Centroids are RAS, mm, as the views show them.")
        made = any(getattr(self._parameters, _BUTTONS[name][0]) is not None for name in _BUTTONS)
        return _("No structures were segmented.") if made else _("No results yet.")

    def _colors(self) -> dict[str, tuple[float, float, float]]:
        """Segment name to colour, 0..1."""
        if self._parameters.segmentation is None:
            return {}
        segmentation = self._parameters.segmentation.GetSegmentation()
        segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
        return {segment.GetName(): segment.GetColor() for segment in segments}

    def _follow(self, segmentation: Any) -> None:
        """Observe the segments of this node, and of no other."""
        if segmentation is self._segmentation:
            return
        self.removeObservers(self._onEdited)
        self._segmentation = segmentation
        if segmentation is not None:
            for event in segmentationEvents():
                self.addObserver(segmentation.GetSegmentation(), event, self._onEdited)

    def _onEdited(self, caller: Any = None, event: Any = None) -> None:
        if self._parameters is not None and not self._parameters.edited:
            self._parameters.edited = True

    def _onRow(self, row: Measurement) -> None:
        if row.centroid_ras is not None:
            centreSlices(row.centroid_ras)

    @shown("The segmentation could not be measured")
    def _onRemeasure(self) -> None:
        notes = _Notes()
        self._logic.remeasure(self._parameters, notes)
        self.show()
        if notes.warnings:
            self._ui.statusLabel.text = "\n".join(notes.warnings)

    @shown("The surfaces could not be shown")
    def _on3D(self) -> None:
        if self._ui.show3DButton.checked:
            createClosedSurface(self._parameters.segmentation)
        else:
            removeClosedSurface(self._parameters.segmentation)

    @shown("The plot could not be shown")
    def _onChart(self) -> None:
        showChart(self._parameters.volumesChart)

    @shown("The image could not be shown")
    def _onInput(self) -> None:
        showInSlices(self._parameters.measuredImage)

    @shown("The uncertainty could not be shown")
    def _onUncertainty(self) -> None:
        showInSlices(self._parameters.measuredImage, self._parameters.uncertaintyMap, 0.6)

    @shown("The samples could not be shown")
    def _onSamples(self) -> None:
        self._parameters.samples.SetDisplayVisibility(self._ui.showSamplesButton.checked)

    @shown("The CT could not be shown")
    def _onCtFromMr(self) -> None:
        showInSlices(self._parameters.syntheticCtFromMr)

    @shown("The CT could not be shown")
    def _onCtFromCbct(self) -> None:
        showInSlices(self._parameters.syntheticCtFromCbct)

    @shown("The difference could not be shown")
    def _onDifferenceFromMr(self) -> None:
        showInSlices(self._parameters.syntheticCtFromMr, self._parameters.differenceFromMr, 0.6)

    @shown("The difference could not be shown")
    def _onDifferenceFromCbct(self) -> None:
        showInSlices(self._parameters.syntheticCtFromCbct, self._parameters.differenceFromCbct, 0.6)

    @shown("The window could not be set")
    def _onCtWindow(self) -> None:
        window = _WINDOWS[self._ui.ctWindowComboBox.currentIndex]
        for node in (self._parameters.syntheticCtFromMr, self._parameters.syntheticCtFromCbct):
            if node is not None:
                showCtWindow(node, window)


class _Notes(SilentProgress):
    """Keeps what the user must know about a measurement."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        """Keep it."""
        self.warnings.append(message)
