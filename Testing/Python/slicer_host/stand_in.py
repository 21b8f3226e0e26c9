# SPDX-License-Identifier: Apache-2.0
"""What the stand-ins for widgets of CTK and Slicer are made of."""

import weakref
from collections.abc import Callable

import vtk
from PySide6 import QtCore


def stored(kind, name: str, default, changed: str = "") -> QtCore.Property:
    """A Qt property kept by the widget; the method called `changed` runs after a new value was set."""

    def read(self):
        return vars(self).setdefault("_stored", {}).get(name, default)

    def write(self, value):
        if value != read(self):
            self._stored[name] = value
            if changed:
                getattr(self, changed)()

    return QtCore.Property(kind, read, write)


def requireClass(node, className: str, method: str) -> None:
    """As PythonQt does: raise TypeError where a method is given a node of another class; None is allowed."""
    if node is not None and not node.IsA(className):
        raise TypeError(f"{method} does not take a {node.GetClassName()}")


class Observations:
    """What a widget observes in the scene; it neither keeps the widget alive nor calls one that is gone."""

    def __init__(self, widget: QtCore.QObject):
        self._tags = tags = []
        widget.destroyed.connect(lambda: _removeAll(tags))
        weakref.finalize(widget, _removeAll, tags)

    def add(self, vtkObject, method: Callable[[], None], event=vtk.vtkCommand.ModifiedEvent) -> None:
        """Call a method of the widget when this happens to the object."""
        weak = weakref.WeakMethod(method)
        self._tags.append((vtkObject, vtkObject.AddObserver(event, lambda *_: (weak() or _nothing)())))

    def clear(self) -> None:
        """Observe nothing any more."""
        _removeAll(self._tags)


def _removeAll(tags: list) -> None:
    for observed, tag in tags:
        observed.RemoveObserver(tag)
    tags.clear()


def _nothing() -> None:
    pass
