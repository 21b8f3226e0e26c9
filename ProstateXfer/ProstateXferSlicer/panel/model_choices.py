# SPDX-License-Identifier: Apache-2.0
"""The section "Tasks and models": which model does each task, and what its card says."""

from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ProstateXferLib.checkpoints.ensemble_card import average_of, is_ensemble, members_of
from ProstateXferLib.checkpoints.loose_models import is_model
from ProstateXferLib.cohort.model_choice import ModelOption, models_for, option_at
from ProstateXferLib.cohort.model_fit import why_not
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.panel.messages import showError
from ProstateXferSlicer.scene.parameters import TASK_OF_PARAMETER


class ModelChoices:
    """The four model lists with their buttons, and the card browser below them."""

    def __init__(self, ui: Any, onChanged: Callable[[], None]) -> None:
        self._ui, self._onChanged = ui, onChanged
        self._parameters: Any = None
        self._filling = False
        self._shown: tuple[str, ...] | None = None
        self._toldProblem = ""
        self._options: dict[str, list[ModelOption]] = {name: [] for name in TASK_OF_PARAMETER}
        for name in TASK_OF_PARAMETER:
            self._combo(name).connect("currentIndexChanged(int)", self._choose(name))
            self._widget(name, "ModelFileButton").connect("clicked()", self._chooseFile(name))
            self._widget(name, "ModelCardButton").connect("clicked()", self._showCard(name))

    def setParameters(self, parameters: Any) -> None:
        """Take another parameter node, or None while the scene is closed."""
        self._parameters, self._shown = parameters, None
        self.show()

    def show(self) -> None:
        """List the models anew where the folder or a choice has changed; grey out those of tasks not ticked."""
        if self._parameters is None:
            return
        state = (self._parameters.modelsFolder, *(self._chosen(name) for name in TASK_OF_PARAMETER))
        if state != self._shown:
            self._shown = state
            self._list()
        for name in TASK_OF_PARAMETER:
            self._describe(name)

    def _list(self) -> None:
        self._filling = True
        try:
            for name, task in TASK_OF_PARAMETER.items():
                self._options[name] = self._modelsFor(task)
                self._fill(name)
        finally:
            self._filling = False

    def option(self, name: str) -> ModelOption | None:
        """The model chosen for the task of a parameter ("prostate"); None where its file has gone."""
        chosen = self._chosen(name)
        return next((option for option in self._options[name] if option.name == chosen), None)

    def _modelsFor(self, task) -> list[ModelOption]:
        try:
            return models_for(task, self._folder())
        except ProstateXferError as error:  # a malformed registry in the user's folder, the same for all tasks
            if str(error) != self._toldProblem:
                self._toldProblem = str(error)
                showError(_("The models could not be listed"), self._toldProblem)
            return []

    def _fill(self, name: str) -> None:
        combo, chosen = self._combo(name), self._chosen(name)
        self._addFile(name, chosen)
        combo.clear()
        for option in self._options[name]:
            combo.addItem(lineOf(option))
        option = self.option(name)
        if option is None:
            combo.addItem(_("{name} (not found)").format(name=chosen))
            combo.setCurrentIndex(len(self._options[name]))
        else:
            combo.setCurrentIndex(self._options[name].index(option))

    def _addFile(self, name: str, chosen: str) -> None:
        """A checkpoint chosen by its path stands in the list beside those that have a name."""
        path = Path(chosen)
        if self.option(name) is None and (path.is_file() or is_model(path)):
            self._options[name].append(optionOfFile(TASK_OF_PARAMETER[name], path, self._folder()))

    def _describe(self, name: str) -> None:
        """Enable a task's list and card button, or say why not."""
        option, title = self.option(name), TASK_OF_PARAMETER[name].title
        gone = _("This model is not on this computer any more: choose another")
        combo, button = self._combo(name), self._widget(name, "ModelCardButton")
        combo.enabled = getattr(self._parameters, name)
        if combo.enabled:
            combo.toolTip = gone if option is None else option.reason or option.title
        else:
            combo.toolTip = _("Tick {task} to choose its model").format(task=title)
        button.enabled = option is not None
        button.toolTip = (
            gone if option is None else _("Show the card of the model chosen for: {task}").format(task=title)
        )

    def _choose(self, name: str) -> Callable[..., None]:
        def chosen() -> None:
            index = self._combo(name).currentIndex
            if self._filling or self._parameters is None or not 0 <= index < len(self._options[name]):
                return
            option = self._options[name][index]
            setattr(self._parameters, f"{name}Model", option.name)
            self._showOption(option)
            self._onChanged()

        return chosen

    def _chooseFile(self, name: str) -> Callable[..., None]:
        def choose() -> None:
            path = qt.QFileDialog.getOpenFileName(
                slicer.util.mainWindow(),
                _("Choose a checkpoint"),
                "",
                _("Checkpoints, or plans.json of an nnU-Net folder (*.safetensors plans.json)"),
            )
            if path and self._parameters is not None:
                self.useFile(name, path)

        return choose

    def useFile(self, name: str, path: str) -> None:
        """Choose a checkpoint file for a task; a file that cannot do it is refused with its reason.

        A file dialog chooses no folders, so that the plans of an nnU-Net folder stand for it.
        """
        model = Path(path).parent if Path(path).name == "plans.json" else Path(path)
        option = optionOfFile(TASK_OF_PARAMETER[name], model, self._folder())
        if option.reason is not None:
            showError(_("This checkpoint cannot be used"), option.reason)
            return
        setattr(self._parameters, f"{name}Model", str(model))
        self._showOption(option)
        self._onChanged()

    def _showCard(self, name: str) -> Callable[..., None]:
        def show() -> None:
            option = self.option(name)
            if option is not None:
                self._showOption(option)
                self._ui.modelCardSection.collapsed = False

        return show

    def _showOption(self, option: ModelOption) -> None:
        self._ui.modelCardBrowser.setHtml(cardHtml(option))

    def _folder(self) -> Path | None:
        return Path(self._parameters.modelsFolder) if self._parameters.modelsFolder else None

    def _chosen(self, name: str) -> str:
        return getattr(self._parameters, f"{name}Model")

    def _combo(self, name: str):
        return self._widget(name, "ModelComboBox")

    def _widget(self, name: str, suffix: str):
        return getattr(self._ui, f"{name}{suffix}")


def optionOfFile(task: Task, path: Path, modelsFolder: Path | None = None) -> ModelOption:
    """A checkpoint file or an nnU-Net folder as a line of the list, with the reason where it cannot do the task."""
    option = option_at(path, models_folder=modelsFolder)
    return option if option.reason is not None else replace(option, reason=why_not(option.card, task))


def lineOf(option: ModelOption) -> str:
    """A model's line in a list: its name, and in a word why it cannot be chosen; the tooltip has the sentence."""
    if option.reason is None:
        return option.name
    words = {
        "here": _("{name} (not for this task)"),
        "damaged": _("{name} (damaged)"),
        "incomplete": _("{name} (incomplete)"),
    }
    return words.get(option.state, _("{name} (not here)")).format(name=option.name)


def cardHtml(option: ModelOption) -> str:
    """A model's card for the card browser: what it is, what it was trained on, how it did, licence, limits."""
    rows = []
    if option.reason is not None:
        rows.append((_("Not available"), option.reason))
    card = option.card
    if card is not None:
        rows += [
            (_("Intended use"), card.intended_use),
            (_("Input"), ", ".join(card.inputs)),
            (_("Finds"), ", ".join(structure.name for structure in card.structures)),
            (_("Trained on"), card.training_data),
        ]
        if is_ensemble(card):
            members = "; ".join(f"{member.name} ({member.weight:.3f})" for member in members_of(card))
            rows.append((_("Averages by {average}").format(average=average_of(card)), members))
        rows += [(f"{s.metric}, {s.data}", f"{s.value:g} (n = {s.cases})") for s in card.scores]
        rows += [(_("Licence"), card.licence), (_("Cite"), card.citation)]
    rows += [(_("File"), str(option.path or "")), (_("SHA-256"), option.sha256 or "")]
    lines = "".join(
        f"<tr><td><b>{escape(name)}</b>&nbsp;&nbsp;</td><td>{escape(text)}</td></tr>" for name, text in rows if text
    )
    return f"<h4>{escape(option.title or option.name)}</h4><table>{lines}</table>"
