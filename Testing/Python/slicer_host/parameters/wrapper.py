# SPDX-License-Identifier: Apache-2.0
"""@parameterNodeWrapper: typed attributes on a parameter node, and their widgets."""

import logging
import typing
import weakref
from collections.abc import Iterator

import qt
import slicer
import vtk

from slicer_host.parameters.annotations import Decimals, Default, SingleStep, Validator, splitAnnotations
from slicer_host.parameters.connectors import GuiConnector, createGuiConnector
from slicer_host.parameters.pack import PackSerializer
from slicer_host.parameters.serializers import Serializer, makeSerializer

SlicerParameterNamePropertyName = "SlicerParameterName"


def isParameterNodeWrapper(obj) -> bool:
    """True for a wrapper's class and for its instances."""
    return getattr(obj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter: str):
    """The widget below this one that belongs to a parameter, or None."""
    children = widget.findChildren(qt.QWidget)
    return next((w for w in children if w.property(SlicerParameterNamePropertyName) == parameter), None)


class _Slot:
    """One parameter of one node: reads once, and again when the node was changed by somebody else."""

    def __init__(self, serializer: Serializer, default: Default, node, name: str):
        self.serializer, self.default, self._node, self._name = serializer, default, node, name
        if not serializer.isIn(node, name):
            serializer.write(node, name, default.value)
        self.isCached, self._writing = serializer.canCache, False
        self._value = serializer.read(node, name)
        # A weak reference, so that a wrapper nobody holds goes away and takes its observers with it.
        weak = weakref.ref(self)
        tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: weak()._onModified())
        weakref.finalize(self, node.RemoveObserver, tag)

    def _onModified(self) -> None:
        if not self._writing:
            self._value = self._readFromNode()

    def _readFromNode(self):
        if not self.serializer.isIn(self._node, self._name):
            self.serializer.write(self._node, self._name, self.default.value)
        return self.serializer.read(self._node, self._name)

    def read(self):
        return self._value if self.isCached else self._readFromNode()

    def write(self, value) -> None:
        self._writing = True
        try:
            # Observers run when NodeModify ends, and have to find the new value then.
            with slicer.util.NodeModify(self._node):
                self.serializer.write(self._node, self._name, value)
                self._value = self._readFromNode()
        finally:
            self._writing = False


class _Wrapper:
    """The methods every wrapper class has."""

    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode, prefix: str | None = None):
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, GuiConnector], int]] = {}
        self._nextTag, self._updating = 0, False
        self._slots = {
            name: _Slot(serializer, default, parameterNode, f"{prefix or ''}{name}")
            for name, (serializer, default, _) in self.allParameters.items()
        }

    @classmethod
    def _check(cls, name: str) -> None:
        top, _, rest = name.partition(".")
        if top not in cls.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {top}")
        if rest:
            splitAnnotations(cls.allParameters[top][2])[0].dataType(rest)

    @classmethod
    def dataType(cls, name: str):
        """The type of a parameter, with its annotations."""
        cls._check(name)
        top, _, rest = name.partition(".")
        datatype = cls.allParameters[top][2]
        return splitAnnotations(datatype)[0].dataType(rest) if rest else datatype

    def isCached(self, name: str) -> bool:
        """Whether reads are served from memory."""
        self._check(name)
        return self._slots[name].isCached

    def default(self, name: str) -> Default:
        """The parameter's default."""
        self._check(name)
        return self._slots[name].default

    def getValue(self, name: str):
        """A value by its (perhaps dotted) name."""
        self._check(name)
        top, _, rest = name.partition(".")
        value = self._slots[top].read()
        return value.getValue(rest) if rest else value

    def setValue(self, name: str, value) -> None:
        """Set a value by its (perhaps dotted) name."""
        self._check(name)
        top, _, rest = name.partition(".")
        if rest:
            self._slots[top].read().setValue(rest, value)
        else:
            self._slots[top].write(value)

    # the parameter node

    def StartModify(self):
        """Of the parameter node."""
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        """Of the parameter node."""
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event, callback, priority=0.0):
        """Of the parameter node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        """Of the parameter node."""
        return self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        """Of the parameter node."""
        return self.parameterNode.Modified()

    # widgets

    def connectGui(self, gui) -> int:
        """Connect the widgets that have a SlicerParameterName: below a widget, or attributes of an object."""
        isWidget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if isWidget else list(vars(gui).values())
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict) -> int:
        """Connect widgets by the names of parameters; the tag is for disconnectGui."""
        for name in mapping:
            self._check(name)
        connectors = {
            name: widget if isinstance(widget, GuiConnector) else createGuiConnector(widget, self.dataType(name))
            for name, widget in mapping.items()
        }
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(lambda name=name, connector=connector: self._fromGui(name, connector))
        tag, self._nextTag = self._nextTag, self._nextTag + 1
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._toGui())
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int) -> None:
        """Undo one connection."""
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def _fromGui(self, name: str, connector: GuiConnector) -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                self.setValue(name, connector.read())

    def _connected(self) -> Iterator[tuple[str, GuiConnector]]:
        for connectors, _ in self._guis.values():
            yield from connectors.items()

    def _toGui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for name, connector in self._connected():
                    connector.write(self.getValue(name))
        finally:
            self._updating = False


def _parameter(name: str) -> property:
    return property(lambda self: self._slots[name].read(), lambda self, value: self._slots[name].write(value))


def parameterNodeWrapper(cls=None):
    """Class decorator: the class keeps its name and methods, its typed members become parameters."""
    if cls is None:
        return parameterNodeWrapper
    parameters = {}
    for name, datatype in typing.get_type_hints(cls, include_extras=True).items():
        serializer, default = makeSerializer(datatype)
        if hasattr(cls, name):
            default = Default(getattr(cls, name))
        parameters[name] = (serializer, default or Default(serializer.default()), datatype)
        unused = [
            entry
            for entry in splitAnnotations(datatype)[1]
            if not isinstance(entry, (Default, Validator, Decimals, SingleStep))
        ]
        if unused:
            logging.warning("Unused annotations: %s", unused)
        setattr(cls, name, _parameter(name))
    for name, value in {**vars(_Wrapper), "allParameters": parameters}.items():
        if name.startswith("__") and name != "__init__":
            continue
        if name in parameters or (name != "__init__" and hasattr(cls, name)):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, value)
    return cls


__all__ = ["PackSerializer", "parameterNodeWrapper"]
