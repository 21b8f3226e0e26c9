# SPDX-License-Identifier: Apache-2.0
"""The Slicer module ProstateXfer: it wires nodes, files and the panel; ProstateXferSlicer and ProstateXferLib work."""

import logging
import sys
import unittest
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# In a build or installed tree the library lies beside this file. A source checkout that was added to the module paths
# has it one folder up, where Slicer does not look.
_HERE = Path(__file__).resolve().parent
for _folder in (_HERE, _HERE.parent):
    if (_folder / "ProstateXferLib" / "__init__.py").is_file() and str(_folder) not in sys.path:
        sys.path.append(str(_folder))

_PACKAGES = ("ProstateXferSlicer", "ProstateXferLib")


class ProstateXfer(ScriptedLoadableModule):
    """What the module selector and the help show; registers the sample data once Slicer has started."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "ProstateXfer"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation"), "Radiotherapy"]
        parent.dependencies = []
        parent.contributors = ["ProstateXfer contributors"]
        parent.helpText = _(
            "Segments the prostate and the dominant intraprostatic lesion (DIL) on T2w MR, makes synthetic CTs from MR "
            "or cone-beam CT, and measures volumes (cm³) and centroids (mm). Everything runs on this computer. "
            "<b>Research use only – not for clinical decisions.</b>"
        )
        parent.acknowledgementText = _(
            "Methods: MR-DINOv3 (AAPM 2026), MedDINOv3, DINOv3, DGCF, and the transfer papers named in CITATION.cff. "
            "The shipped gland model was trained on PROMISE12 (Litjens et al., 2014)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Offer the phantom in the Sample Data module."""
    from ProstateXferSlicer.sample_data import registerSampleData as register

    register(_HERE / "Resources" / "Icons")


class ProstateXferWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: sections from ProstateXferSlicer.panel around one parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: ProstateXferLogic | None = None
        self._parameterNode: Any = None

    def setup(self) -> None:
        """Build the panel; called when the module is opened for the first time, and again after a reload."""
        from ProstateXferSlicer.panel.sections import Sections

        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ProstateXfer.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = ProstateXferLogic()
        self.sections = Sections(self.ui, self.logic)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called before a reload and when Slicer ends: no child process and no observer stays."""
        if self.logic is None:  # setup has failed
            return
        self.sections.close()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the module is shown."""
        self.initializeParameterNode()

    def exit(self) -> None:
        """Called each time another module is shown; a run goes on meanwhile."""

    def onReload(self) -> None:
        """Load the module and its packages anew (developer mode)."""
        for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller=None, event=None) -> None:
        """The nodes go: a run must not come back to a scene that is not its own."""
        self.sections.cancel()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller=None, event=None) -> None:
        """A new scene, or a loaded one with a parameter node of its own."""
        self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Take the scene's parameter node; choose the T2w when the scene has one volume only."""
        self.setParameterNode(self.logic.getParameterNode())
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        volumes = [node for node in volumes if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
        if self._parameterNode.t2w is None and self._parameterNode.cbct is None and len(volumes) == 1:
            self._parameterNode.t2w = volumes[0]

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show a parameter node and follow its changes; None while the scene is closed."""
        modified = vtk.vtkCommand.ModifiedEvent
        if self._parameterNode is not None and self.hasObserver(
            self._parameterNode.parameterNode, modified, self.onParametersModified
        ):
            self.removeObserver(self._parameterNode.parameterNode, modified, self.onParametersModified)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self.addObserver(parameterNode.parameterNode, modified, self.onParametersModified)
        self.sections.setParameters(parameterNode)

    def onParametersModified(self, caller=None, event=None) -> None:
        """Something changed the parameter node: the user, a script, or an input that was deleted."""
        self.sections.show()


class ProstateXferLogic(ScriptedLoadableModuleLogic):
    """Everything the panel does, for scripts: nodes in, nodes out. Knows no Qt."""

    def getParameterNode(self):
        """The scene's one parameter node, typed."""
        from ProstateXferSlicer.scene.parameters import ProstateXferParameters

        return ProstateXferParameters(ScriptedLoadableModuleLogic.getParameterNode(self))

    def process(
        self,
        t2w=None,
        *,
        adc=None,
        highB=None,
        cbct=None,
        referenceCt=None,
        referenceSegmentation=None,
        tasks=("prostate", "dil"),
        prostateModel: str | None = None,
        dilModel: str | None = None,
        ctFromMrModel: str | None = None,
        ctFromCbctModel: str | None = None,
        modelsFolder: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        testTimeAugmentation: bool = False,
        decodeEverything: bool = False,
        uncertainty: bool = True,
        threads: int | None = None,
        waitForCompletion: bool = True,
        watcher=None,
        updateParameterNode: bool = True,
    ):
        """Run tasks on nodes and add the results to the scene.

        Args:
            t2w, adc, highB, cbct, referenceCt: scalar volume nodes; CBCT and reference CT in HU.
            referenceSegmentation: segmentation node to compare with.
            tasks: of "prostate", "dil" (both on t2w), "ct-from-mr" (on t2w), "ct-from-cbct" (on cbct).
            prostateModel, dilModel, ctFromMrModel, ctFromCbctModel: name or file; None is the shipped model.
            modelsFolder: folder with checkpoints, searched first.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps"; precision: "auto", "fp32", "bf16" or "fp16".
            testTimeAugmentation: average over four mirrorings. decodeEverything: also outside body and gland.
            uncertainty: also make the map of entropy (bits). threads: CPU threads of the child.
            waitForCompletion: True blocks until the results are there; False returns at once.
            watcher: a `study_run.StudyWatcher`, told of progress, log and end.
            updateParameterNode: make the results those of the panel.

        Returns:
            StudyNodes when it waited; else the StudyRun, with `cancel()`, `wait()` and `outcome`.

        Raises:
            ProstateXferError: inputs, options or the run itself, in one sentence; the scene is then as it was.
            CancelledError: the run was cancelled.
        """
        from ProstateXferLib.cohort.options import StudyOptions

        models = {
            "prostate_model": prostateModel,
            "dil_model": dilModel,
            "ct_from_mr_model": ctFromMrModel,
            "ct_from_cbct_model": ctFromCbctModel,
        }
        options = StudyOptions(
            tasks=tuple(tasks),
            **{name: str(model) for name, model in models.items() if model},
            models_folder=Path(modelsFolder) if modelsFolder else None,
            device=device,
            precision=precision,
            tta=testTimeAugmentation,
            decode_everything=decodeEverything,
            uncertainty=uncertainty,
            threads=threads,
        )
        nodes = {
            "t2w": t2w,
            "adc": adc,
            "high_b": highB,
            "cbct": cbct,
            "reference_ct": referenceCt,
            "reference_segmentation": referenceSegmentation,
        }
        run = self.startRun(
            {name: node for name, node in nodes.items() if node is not None},
            options,
            watcher=watcher,
            process=None if waitForCompletion else self._processForEventLoop(),
            updateParameterNode=updateParameterNode,
        )
        return self.waited(run) if waitForCompletion else run

    def startRun(self, inputs, options, *, watcher=None, process=None, updateParameterNode: bool = True):
        """Start a run on `inputs` (StudyInputs' fields to nodes) with `options`; the StudyRun that is under way."""
        from ProstateXferSlicer.scene.parameters import keepResults
        from ProstateXferSlicer.study_run import StudyRun

        parameters = self.getParameterNode() if updateParameterNode else None

        def keep(nodes, result):
            if parameters is not None:
                keepResults(parameters, nodes, result, inputs)

        run = StudyRun(inputs, options, watcher=watcher, process=process, onNodes=keep)
        run.start()
        return run

    def remeasure(self, parameterNode=None, progress=None):
        """Measure the segmentation as it is now, edits included; updates table, centroids and plot; the rows.

        `progress` (`ProstateXferLib.progress.Progress`) is told what the user must know about the reference.
        """
        from ProstateXferSlicer.measuring import remeasure

        return remeasure(parameterNode or self.getParameterNode(), progress)

    def exportCsv(self, path, parameterNode=None) -> Path:
        """Write the measurements of the last run as CSV."""
        from ProstateXferSlicer.exporting import exportCsv

        return exportCsv(parameterNode or self.getParameterNode(), Path(path))

    def exportReport(self, path, parameterNode=None, process=None, onFinished=None):
        """Write the HTML report of the last run, edits included; waits unless `onFinished` is given."""
        from ProstateXferSlicer.exporting import ReportExport

        export = ReportExport(parameterNode or self.getParameterNode(), Path(path), process, onFinished)
        export.start()
        return export if onFinished else export.wait(self._pump)

    @staticmethod
    def _processForEventLoop():
        from ProstateXferSlicer.work.qt_process import QtProcess

        return QtProcess()

    @staticmethod
    def _pump() -> None:
        slicer.app.processEvents()

    def waited(self, run):
        """Wait for a run; its nodes, or its failure as an exception."""
        from ProstateXferLib.errors import CancelledError, ProstateXferError

        outcome = run.wait(self._pump)
        if outcome.job.state == "cancelled":
            raise CancelledError(_("Cancelled: the scene is as it was."))
        if outcome.job.state == "failed":
            logging.getLogger(__name__).error("\n".join(outcome.job.logTail))
            raise ProstateXferError(outcome.job.error)
        return outcome.nodes


class ProstateXferTest(ScriptedLoadableModuleTest):
    """What "Reload and Test" runs in Slicer: the phantom from sample data to measurements, cancelling, reloading."""

    def setUp(self) -> None:
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Each check in turn, as the methods of ProstateXferSlicer.self_test; the first failure ends it."""
        from ProstateXferSlicer.self_test import CHECKS

        for check in CHECKS:
            self.setUp()
            self.delayDisplay(check.__doc__.splitlines()[0])
            check(unittest.TestCase())
        self.delayDisplay(_("All checks passed"))
