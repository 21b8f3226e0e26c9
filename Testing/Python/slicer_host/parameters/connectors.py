# SPDX-License-Identifier: Apache-2.0
"""Which widget can show which type of parameter; a widget's exact class counts, as in Slicer."""

import enum
import pathlib
import typing
from collections.abc import Callable

import ctk
import qt
import slicer

from slicer_host.parameters.annotations import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    first,
    splitAnnotations,
)

_PATHS = (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePath, pathlib.PurePosixPath)
_INTEGER_LIMIT = 2**31
_registered: list[type] = []


def parameterNodeGuiConnector(cls: type) -> type:
    """Class decorator that makes a connector known."""
    _registered.append(cls)
    return cls


def createGuiConnector(widget, datatype) -> "GuiConnector":
    """The connector for a widget and a (perhaps annotated) type; RuntimeError when the two do not fit."""
    bare, _ = splitAnnotations(datatype)
    for cls in _registered:
        if cls.canRepresent(widget, bare):
            return cls(widget, datatype)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'.")


class GuiConnector:
    """A widget seen as a value that can change."""

    widgetClasses: tuple = ()
    types: tuple = ()
    signal, attribute = "", ""

    def __init__(self, widget, datatype):
        self._widget, self._callback = widget, None
        self.type, self.annotations = splitAnnotations(datatype)

    @classmethod
    def canRepresent(cls, widget, bare) -> bool:
        """Whether this class is for the widget and the type."""
        return type(widget) in cls.widgetClasses and bare in cls.types

    def widget(self):
        """The widget."""
        return self._widget

    def onChanged(self, callback: Callable | None) -> None:
        """Call this when the widget's value changes; None stops it."""
        self._callback = callback
        if self.signal:
            signal = getattr(self._widget, self.signal)
            if callback is not None:
                signal.connect(self.changed)
            else:
                signal.disconnect(self.changed)

    def changed(self) -> None:
        """The widget's value has changed."""
        if self._callback:
            self._callback()

    def read(self):
        """The value the widget shows."""
        return getattr(self._widget, self.attribute)

    def write(self, value) -> None:
        """Show a value."""
        setattr(self._widget, self.attribute, value)


@parameterNodeGuiConnector
class CheckBoxConnector(GuiConnector):
    """A check box or a checkable button for a bool (a ctkCheckablePushButton from Slicer 5.10 on)."""

    widgetClasses = (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton)
    types = (bool,)
    signal, attribute = "toggled", "checked"

    def __init__(self, widget, datatype):
        super().__init__(widget, datatype)
        widget.setCheckable(True)


class _NumberConnector(GuiConnector):
    """Limits, decimals and step come from the annotations."""

    signal, attribute = "valueChanged", "value"
    mustBeBounded: tuple = ()

    def __init__(self, widget, datatype):
        super().__init__(widget, datatype)
        if step := first(self.annotations, SingleStep):
            widget.singleStep = step.value
        both = first(self.annotations, WithinRange)
        lower, upper = both or first(self.annotations, Minimum), both or first(self.annotations, Maximum)
        if type(widget) in self.mustBeBounded and not (lower and upper):
            raise RuntimeError(f"Cannot have a connection to {type(widget).__name__} where the number is unbounded.")
        self._limit(lower.minimum if lower else None, upper.maximum if upper else None)


@parameterNodeGuiConnector
class IntegerConnector(_NumberConnector):
    """A spin box or a slider for an int."""

    widgetClasses = (qt.QSlider, qt.QSpinBox)
    types = (int,)
    mustBeBounded = (qt.QSlider,)

    def _limit(self, minimum, maximum) -> None:
        self._widget.setRange(
            -_INTEGER_LIMIT if minimum is None else minimum, _INTEGER_LIMIT - 1 if maximum is None else maximum
        )


@parameterNodeGuiConnector
class FloatConnector(_NumberConnector):
    """Widgets with decimals for a float; from Slicer 5.10 on for an int as well, which 5.8 refuses."""

    widgetClasses = (
        qt.QDoubleSpinBox,
        ctk.ctkSliderWidget,
        ctk.ctkDoubleSlider,
        ctk.ctkDoubleSpinBox,
        slicer.qMRMLSliderWidget,
        slicer.qMRMLSpinBox,
    )
    types = (float,)
    mustBeBounded = (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)

    def __init__(self, widget, datatype):
        super().__init__(widget, datatype)
        decimals = first(self.annotations, Decimals)
        if decimals is not None and not isinstance(widget, ctk.ctkDoubleSlider):
            widget.decimals = decimals.value

    def _limit(self, minimum, maximum) -> None:
        self._widget.minimum = float("-inf") if minimum is None else minimum
        self._widget.maximum = float("inf") if maximum is None else maximum


@parameterNodeGuiConnector
class ChoiceConnector(GuiConnector):
    """A combo box for a value with a Choice annotation; its items are replaced by the choices."""

    widgetClasses = (qt.QComboBox, ctk.ctkComboBox)
    types = (int, float, str, bool)
    signal = "currentIndexChanged"

    def __init__(self, widget, datatype):
        super().__init__(widget, datatype)
        choice = first(self.annotations, Choice)
        if choice is None:
            raise RuntimeError("a combo box needs the Choice annotation")
        self._fill({str(value): value for value in choice.choices})

    def _fill(self, choices: dict) -> None:
        self._choices = list(choices.values())
        self._widget.clear()
        self._widget.addItems(list(choices))

    def read(self):
        return self._choices[self._widget.currentIndex]

    def write(self, value) -> None:
        if value not in self._choices:
            raise ValueError(f"Unable to find value {value} in choices {self._choices}")
        self._widget.currentIndex = self._choices.index(value)


@parameterNodeGuiConnector
class EnumConnector(ChoiceConnector):
    """A combo box for an Enum; its members may have a label()."""

    def __init__(self, widget, datatype):
        GuiConnector.__init__(self, widget, datatype)
        label = getattr(self.type, "label", lambda member: member.name)
        self._fill({label(member): member for member in self.type})

    @classmethod
    def canRepresent(cls, widget, bare) -> bool:
        return type(widget) in cls.widgetClasses and isinstance(bare, type) and issubclass(bare, enum.Enum)


@parameterNodeGuiConnector
class LineEditConnector(GuiConnector):
    """A line for a str."""

    widgetClasses, types = (qt.QLineEdit,), (str,)
    signal, attribute = "textChanged", "text"


@parameterNodeGuiConnector
class LabelConnector(GuiConnector):
    """A label for a str; the user cannot change it."""

    widgetClasses, types = (qt.QLabel,), (str,)
    attribute = "text"


@parameterNodeGuiConnector
class TextEditConnector(GuiConnector):
    """A text for a str."""

    widgetClasses, types = (qt.QTextEdit,), (str,)
    signal, attribute = "textChanged", "plainText"


class _PathConnector(GuiConnector):
    types = _PATHS

    def read(self):
        return self.type(super().read())

    def write(self, value) -> None:
        super().write(str(value))


@parameterNodeGuiConnector
class PathLineConnector(_PathConnector):
    """A path line for a path; never for a str, nor for an Optional path."""

    widgetClasses = (ctk.ctkPathLineEdit,)
    signal, attribute = "currentPathChanged", "currentPath"


@parameterNodeGuiConnector
class DirectoryConnector(_PathConnector):
    """A folder's button for a path."""

    widgetClasses = (ctk.ctkDirectoryButton,)
    signal, attribute = "directoryChanged", "directory"


@parameterNodeGuiConnector
class NodeConnector(GuiConnector):
    """A node selector for a node class, an Optional one, or a union; it then lists these types."""

    signal = "currentNodeChanged"

    def __init__(self, widget, datatype):
        super().__init__(widget, datatype)
        widget.nodeTypes = [cls().GetClassName() for cls in _members(self.type) if cls is not type(None)]

    @classmethod
    def canRepresent(cls, widget, bare) -> bool:
        isNode = all(isinstance(member, type) and issubclass(member, _NODE_OR_NONE) for member in _members(bare))
        return type(widget) is slicer.qMRMLNodeComboBox and isNode

    def read(self):
        return self._widget.currentNode()

    def write(self, value) -> None:
        self._widget.setCurrentNode(value)


_NODE_OR_NONE = (slicer.vtkMRMLNode, type(None))


def _members(bare) -> tuple:
    return typing.get_args(bare) if typing.get_origin(bare) is typing.Union else (bare,)
