# SPDX-License-Identifier: Apache-2.0
"""Widgets and the parameter node that hold the same value.

`parameterNodeWrapper.connectGui` is not used: in Slicer 5.8 it returns no tag, so that its connections outlive the
scene they were made for (Slicer issue 7547), and it knows neither lists of models nor optional folders. These few lines
connect each widget once, for as long as the panel lives; the parameter node behind it may come and go.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Binding:
    """One parameter and how its widget is read and written."""

    parameter: str
    widget: Any
    signal: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


class Bindings:
    """Keeps widgets and current parameter node equal; `onChanged` is called after the user changed something."""

    def __init__(self, bindings: list[Binding], onChanged: Callable[[], None]) -> None:
        self._bindings, self._onChanged = bindings, onChanged
        self._parameters: Any = None
        self._showing = False
        for binding in bindings:
            binding.widget.connect(binding.signal, self._slot(binding))

    def setParameters(self, parameters: Any) -> None:
        """Take another parameter node, or None while the scene is closed."""
        self._parameters = parameters
        self.show()

    def show(self) -> None:
        """Write the parameters into the widgets."""
        if self._parameters is None or self._showing:
            return
        self._showing = True
        try:
            for binding in self._bindings:
                value = getattr(self._parameters, binding.parameter)
                if binding.read() != value:
                    binding.write(value)
        finally:
            self._showing = False

    def _slot(self, binding: Binding) -> Callable[..., None]:
        # Without arguments: PythonQt trims a signal's to what the function takes.
        def changed() -> None:
            if self._parameters is not None and not self._showing:
                value = binding.read()
                if getattr(self._parameters, binding.parameter) != value:
                    setattr(self._parameters, binding.parameter, value)
                self._onChanged()

        return changed


def nodeBinding(parameter: str, widget) -> Binding:
    """A qMRMLNodeComboBox and a node."""
    return Binding(
        parameter, widget, "currentNodeChanged(vtkMRMLNode*)", lambda: widget.currentNode(), widget.setCurrentNode
    )


def checkBinding(parameter: str, widget) -> Binding:
    """A QCheckBox and a bool."""
    return Binding(parameter, widget, "toggled(bool)", lambda: bool(widget.checked), widget.setChecked)


def choiceBinding(parameter: str, widget) -> Binding:
    """A QComboBox with fixed texts and a str; a value that is no choice (a GPU by number) is added to them."""

    def write(value: str) -> None:
        if widget.findText(value) < 0:
            widget.addItem(value)
        widget.setCurrentIndex(widget.findText(value))

    return Binding(parameter, widget, "currentIndexChanged(int)", lambda: widget.currentText, write)


def folderBinding(parameter: str, widget) -> Binding:
    """A ctkPathLineEdit and a str, "" for none."""
    return Binding(parameter, widget, "currentPathChanged(QString)", lambda: widget.currentPath, widget.setCurrentPath)
