# SPDX-License-Identifier: Apache-2.0
"""Slicer's modules: those with a logic alone, and scripted ones with a panel."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import slicer
from PySide6 import QtCore, QtGui, QtWidgets


class LoadableModule:
    """A C++ module of which there is nothing but the logic."""

    def __init__(self, name: str, logic):
        self.name = self.title = name
        self._logic = logic

    def logic(self):
        """The module's logic."""
        return self._logic

    def widgetRepresentation(self):
        """There is no panel."""
        return None


class qSlicerScriptedLoadableModuleWidget(slicer.qMRMLWidget):
    """The widget a scripted module's panel is put into: makes the Python widget class and keeps it."""

    def __init__(self, module: "qSlicerScriptedLoadableModule"):
        super().__init__()
        self._module, self._python = module, None
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)

    def self(self):
        """The instance of the Python class."""
        return self._python

    def reload(self) -> None:
        """Make the Python widget anew from the class as it is loaded now."""
        name = f"{self._module.name}Widget"
        self._python = getattr(sys.modules[self._module.name], name)(self)
        setattr(slicer.modules, name, self._python)
        self._python.setup()

    def enter(self) -> None:
        """The user comes to the panel."""
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        """The user goes to another module."""
        if hasattr(self._python, "exit"):
            self._python.exit()


class qSlicerScriptedLoadableModule:
    """`parent` of a scripted module's first class: its title, categories and so on are set here."""

    def __init__(self, path: Path):
        self.path, self.name = str(path), path.stem
        self.title = self.helpText = self.acknowledgementText = ""
        self.categories, self.dependencies, self.contributors = [], [], []
        self.icon = QtGui.QIcon()
        self.hidden = False
        self.index = -1
        self.widgetRepresentationCreationEnabled = True
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        """The panel; made and set up when it is asked for the first time."""
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.reload()
        return self._widget


class ModuleManager(QtCore.QObject):
    """Knows all modules; also stands in for the module selector of the main window."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)

    def __init__(self, mrml):
        super().__init__()
        self.namespace = SimpleNamespace(sampleDataSources={})
        self.selectedModule = ""
        for name, logic in mrml.logics.items():
            self._add(LoadableModule(name, logic))

    def _add(self, module) -> None:
        setattr(self.namespace, module.name.lower(), module)

    def module(self, name: str):
        """A module by name, or None."""
        found = getattr(self.namespace, name.lower(), None)
        return found if getattr(found, "name", "").lower() == name.lower() else None

    def factoryManager(self) -> "ModuleManager":
        """For slicer.util.moduleNames."""
        return self

    def loadedModuleNames(self) -> tuple[str, ...]:
        """The names of all modules."""
        return tuple(module.name for module in vars(self.namespace).values() if hasattr(module, "name"))

    def selectModule(self, name: str) -> None:
        """Leave one panel and enter another."""
        for module, act in ((self.module(self.selectedModule), "exit"), (self.module(name), "enter")):
            widget = module.widgetRepresentation() if module is not None else None
            if widget is not None:
                getattr(widget, act)()
        self.selectedModule = name

    def loadScripted(self, path: Path) -> qSlicerScriptedLoadableModule:
        """What Slicer does with a scripted module at start-up: import it and make an instance of its first class."""
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        module = qSlicerScriptedLoadableModule(path)
        self._add(module)
        setattr(self.namespace, f"{name}Instance", getattr(sys.modules[name], name)(module))
        self.moduleLoaded.emit(name)
        return module

    def unload(self, name: str) -> None:
        """What Slicer does when it ends; the panel's cleanup() is called through the signal."""
        module = self.module(name)
        self.moduleAboutToBeUnloaded.emit(name)
        if module is not None and module._widget is not None:
            module._widget.hide()
            module._widget.deleteLater()
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            vars(self.namespace).pop(attribute, None)
        if self.selectedModule == name:
            self.selectedModule = ""


class SampleDataLogic:
    """Of the Sample Data module only the register is here."""

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, **options) -> None:
        """Remember a data set under its category."""
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        sources.append(SimpleNamespace(sampleName=sampleName, **options))


def install() -> None:
    """Make the classes attributes of `slicer`, and `import SampleData` work."""
    slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = qSlicerScriptedLoadableModuleWidget
    sys.modules["SampleData"] = ModuleType("SampleData", SampleDataLogic.__doc__)
    sys.modules["SampleData"].SampleDataLogic = SampleDataLogic
