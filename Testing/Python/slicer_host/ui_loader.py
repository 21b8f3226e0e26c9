# SPDX-License-Identifier: Apache-2.0
"""Reads .ui files, and raises where Slicer would only log: a file that loads here has no widget or property missing."""

import functools
import operator
import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from slicer_host.strict_qt import childrenLeftOut

# Dynamic properties that Slicer itself looks for.
_DYNAMIC = {"SlicerParameterName", "SlicerPackParameterName"}
_customClasses: dict[str, type] = {}


def registerClass(cls: type) -> type:
    """Make a stand-in known to the loader under its own name; usable as a decorator."""
    cls.slicerClass = True
    _customClasses[cls.__name__] = cls
    return cls


class StrictUiLoader(QtUiTools.QUiLoader):
    """QUiLoader that knows the stand-ins of Slicer's widgets, and makes a file's connections by PythonQt's rules."""

    slicerClass = False

    def createWidget(self, className: str, parent=None, name: str = ""):
        """Called by Qt for every widget of the file."""
        if className not in _customClasses:
            widget = super().createWidget(className, parent, name)
        else:
            widget = _customClasses[className](parent)
            widget.setObjectName(name)
        if widget is None:
            raise RuntimeError(f"the .ui file has a widget of the unknown class '{className}'")
        self._created[name] = widget
        return widget

    def load(self, device, parent=None):
        """The root widget of an open QFile, or of a file by name."""
        tree = ElementTree.fromstring(self._content(device))
        _checkClasses(tree)
        connections = [
            {part.tag: part.text for part in connection} for connection in tree.iterfind("connections/connection")
        ]
        for element in tree.findall("connections"):
            tree.remove(element)
        flags = _takeFlags(tree)
        self._created: dict[str, QtWidgets.QWidget] = {}
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        with childrenLeftOut():
            root = super().load(buffer, parent)
        if root is None:
            raise RuntimeError(self.errorString())
        _checkProperties(tree, self._created)
        for name, entry, value in flags:
            setattr(self._created[name], entry, value)
        for connection in connections:
            self._connect(connection)
        # The C++ parent owns the widgets, but only these references keep them what they are in Python.
        root.setProperty("widgetsOfTheFile", list(self._created.values()))
        return root

    @staticmethod
    def _content(device) -> bytes:
        if isinstance(device, str):
            device = QtCore.QFile(device)
            device.open(QtCore.QFile.ReadOnly)
        return device.readAll().data()

    def _connect(self, connection: dict[str, str]) -> None:
        for end in ("sender", "receiver"):
            if connection[end] not in self._created:
                raise RuntimeError(f"the .ui file connects the widget '{connection[end]}', which it does not have")
        sender, receiver = self._created[connection["sender"]], self._created[connection["receiver"]]
        if not hasattr(receiver, connection["slot"].split("(")[0]):
            raise RuntimeError(f"'{connection['receiver']}' has no slot '{connection['slot']}'")
        if not sender.connect(connection["signal"], receiver, connection["slot"]):
            raise RuntimeError(f"'{connection['sender']}' has no signal '{connection['signal']}'")


def _checkClasses(tree: ElementTree.Element) -> None:
    """Qt takes a promoted class it does not know for the class it extends, and says nothing."""
    declared = {element.text for element in tree.iterfind("customwidgets/customwidget/class")}
    used = {element.get("class") for element in tree.iter("widget")}
    for name in sorted(used | declared):
        if name not in _customClasses and not hasattr(QtWidgets, name):
            raise RuntimeError(f"the .ui file has a widget of the unknown class '{name}'")
        if name in used and name in _customClasses and name not in declared:
            raise RuntimeError(f"the .ui file uses '{name}' but does not declare it under <customwidgets>")


def _takeFlags(tree: ElementTree.Element) -> list[tuple]:
    """Remove values like `ctkPathLineEdit::Dirs`, which Qt cannot read from a Python class: widget, property, value."""
    found = []
    for widget in tree.iter("widget"):
        cls = _customClasses.get(widget.get("class"))
        for entry in [entry for entry in widget.findall("property") if cls and entry.find("set") is not None]:
            widget.remove(entry)
            names = [name.split("::")[-1] for name in entry.findtext("set").split("|")]
            value = functools.reduce(operator.or_, (getattr(cls, name) for name in names))
            found.append((widget.get("name"), entry.get("name"), value))
    return found


def _checkProperties(tree: ElementTree.Element, widgets: dict[str, QtWidgets.QWidget]) -> None:
    """A property the class does not have becomes a dynamic one, which nobody reads."""
    for element in tree.iter("widget"):
        widget = widgets[element.get("name")]
        for entry in element.findall("property"):
            name = entry.get("name")
            if name not in _DYNAMIC and widget.metaObject().indexOfProperty(name) < 0:
                raise RuntimeError(f"'{element.get('class')}' of the .ui file has no property '{name}'")
