# SPDX-License-Identifier: Apache-2.0
"""All sections of the panel around one parameter node."""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ProstateXferLib.cohort.inputs import INPUT_TITLES, StudyInputs, input_of_sequence
from ProstateXferSlicer.panel.bindings import Bindings, checkBinding, choiceBinding, folderBinding, nodeBinding
from ProstateXferSlicer.panel.doctor_section import DoctorSection
from ProstateXferSlicer.panel.export_section import ExportSection
from ProstateXferSlicer.panel.installer import ensurePackages
from ProstateXferSlicer.panel.messages import errorsShown
from ProstateXferSlicer.panel.model_choices import ModelChoices
from ProstateXferSlicer.panel.results_section import ResultsSection
from ProstateXferSlicer.panel.run_section import RunSection
from ProstateXferSlicer.scene.parameters import TASK_OF_PARAMETER, inputNodes, studyOptions
from ProstateXferSlicer.work.qt_process import QtProcess

# Inputs that only some models read, and their selectors.
_OPTIONAL_SELECTORS = {"adc": "adcSelector", "high_b": "highBSelector"}


class Sections:
    """Connects the sections with each other; computes nothing."""

    def __init__(self, ui: Any, logic: Any) -> None:
        self._ui, self._logic = ui, logic
        self._parameters: Any = None
        self._bindings = Bindings(_bindings(ui), self.show)
        self._models = ModelChoices(ui, self.show)
        self._run = RunSection(ui, onRun=self._startRun, onDone=self._onDone)
        self._results = ResultsSection(ui, logic)
        self._export = ExportSection(ui, logic)
        self._doctor = DoctorSection(ui)

    def setParameters(self, parameters: Any) -> None:
        """Take another parameter node, or None while the scene is closed."""
        self._parameters = parameters
        self._bindings.setParameters(parameters)
        self._models.setParameters(parameters)
        self._results.setParameters(parameters)
        self._export.setParameters(parameters)
        self.show()

    def show(self) -> None:
        """Bring every widget in line with the parameter node."""
        if self._parameters is None:
            self._run.setProblem(_("The scene is being closed"))
            return
        if slicer.mrmlScene.IsImporting():
            # Nodes and their items in the subject hierarchy do not fit together yet, and to ask for that hierarchy now
            # would merge the scene's with the one being loaded. The end of the import shows everything.
            return
        self._bindings.show()
        self._models.show()
        self._showOptionalInputs()
        self._run.setProblem(self._problem())
        self._results.show()
        self._export.show()

    def cancel(self) -> None:
        """Stop the run, if there is one."""
        self._run.cancel()

    def close(self) -> None:
        """Stop everything that is under way; the panel goes."""
        self._run.close()
        self._export.close()
        self._doctor.close()
        self._results.close()

    def _problem(self) -> str | None:
        """Why no run can start with these choices."""
        nodes = inputNodes(self._parameters)
        inputs = StudyInputs(**{field: Path(field) for field in nodes})  # what is chosen; there are no files yet
        return studyOptions(self._parameters).problem(inputs)

    def _showOptionalInputs(self) -> None:
        """Grey out the images that no ticked task's model reads, and say so; name the models that read the others."""
        options = [self._models.option(name) for name in TASK_OF_PARAMETER if getattr(self._parameters, name)]
        cards = [option.card for option in options if option is not None and option.card is not None]
        for field, selector in _OPTIONAL_SELECTORS.items():
            readers = dict.fromkeys(f"'{card.name}'" for card in cards if field in map(input_of_sequence, card.inputs))
            widget, title = getattr(self._ui, selector), INPUT_TITLES[field]
            widget.enabled = bool(readers)
            if readers:
                text = _("{title} of the same examination as the T2w, read by {models}")
            else:
                text = _("The chosen models do not read a {title}")
            widget.toolTip = text.format(title=title, models=", ".join(readers))

    def _startRun(self) -> Any:
        with errorsShown(_("The run could not start")):
            ensurePackages("run")
            return self._logic.startRun(
                inputNodes(self._parameters),
                studyOptions(self._parameters),
                watcher=self._run,
                process=QtProcess(),
            )
        return None

    def _onDone(self, outcome: Any) -> None:
        self.show()
        if outcome.job.state == "done":
            self._results.showNew(outcome.nodes)


def _bindings(ui: Any) -> list:
    return [
        nodeBinding("t2w", ui.t2wSelector),
        nodeBinding("adc", ui.adcSelector),
        nodeBinding("highB", ui.highBSelector),
        nodeBinding("cbct", ui.cbctSelector),
        nodeBinding("referenceCt", ui.referenceCtSelector),
        nodeBinding("referenceSegmentation", ui.referenceSegmentationSelector),
        *(checkBinding(name, getattr(ui, f"{name}CheckBox")) for name in TASK_OF_PARAMETER),
        choiceBinding("device", ui.deviceComboBox),
        choiceBinding("precision", ui.precisionComboBox),
        checkBinding("testTimeAugmentation", ui.ttaCheckBox),
        checkBinding("uncertainty", ui.uncertaintyCheckBox),
        folderBinding("modelsFolder", ui.modelsFolderPathLineEdit),
    ]
