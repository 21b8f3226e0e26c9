# SPDX-License-Identifier: Apache-2.0
"""Stand-in for `slicer.ScriptedLoadableModule`, written anew: the four base classes of a scripted module."""

import importlib
import logging
import unittest
from pathlib import Path

import ctk
import qt
import slicer


class ScriptedLoadableModule:
    """What a module tells about itself; `parent` is Slicer's module object."""

    def __init__(self, parent):
        super().__init__()
        self.parent, self.moduleName = parent, type(self).__name__
        icons = (Path(self.resourcePath(f"Icons/{self.moduleName}.{ending}")) for ending in ("svg", "png"))
        icon = next((path for path in icons if path.is_file()), None)
        if icon is not None:
            parent.icon = qt.QIcon(str(icon))
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        """A file of the module's Resources folder."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        """A sentence with a link, for the help text."""
        page = slicer.app.documentationBaseUrl + docPage if docPage else None
        url = page or slicer.app.moduleDocumentationUrl(self.moduleName)
        return f'<p>For more information, see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **options) -> None:
        """Run the module's own tests."""
        name = f"{self.moduleName}Test"
        testClass = getattr(importlib.import_module(type(self).__module__), name, None)
        if testClass is None:
            raise AssertionError(f"Test case class not found: {type(self).__module__}.{name} ")
        test = testClass()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    """The panel; `parent` is the widget Slicer puts it into."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent or slicer.qMRMLWidget()
        if not parent:
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if not parent:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        """A file of the module's Resources folder."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Build the panel; a module extends this."""
        self.setupDeveloperSection()

    def cleanup(self) -> None:
        """Called before the module goes; a module extends this."""

    def setupDeveloperSection(self) -> None:
        """Buttons to reload and test, in developer mode."""
        if not self.developerMode:
            return
        section = ctk.ctkCollapsibleButton()
        section.text = "Reload && Test"
        row = qt.QHBoxLayout(section)
        self.reloadButton, self.reloadTestMenuButton = qt.QPushButton("Reload"), qt.QPushButton("Reload and Test")
        self.reloadButton.connect("clicked()", self.onReload)
        self.reloadTestMenuButton.connect("clicked()", self.onReloadAndTest)
        row.addWidget(self.reloadButton)
        row.addWidget(self.reloadTestMenuButton)
        self.reloadCollapsibleButton = section
        self.layout.addWidget(section)

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def onReload(self) -> None:
        """Load the module's file anew and build its panel again."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **options) -> None:
        """Run the module's own tests."""
        with slicer.util.tryWithErrorDisplay("Test failed."):
            slicer.selfTests[self.moduleName](**options)

    def onReloadAndTest(self, **options) -> None:
        """Both."""
        with slicer.util.tryWithErrorDisplay("Reload and Test failed."):
            self.onReload()
            slicer.selfTests[self.moduleName](**options)


class ScriptedLoadableModuleLogic:
    """What the module does, without a panel."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The module's parameter node of the scene; made when there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                # A closed scene keeps the node and empties it.
                node.SetAttribute("ModuleName", self.moduleName)
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node if node is not None else slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list:
        """All of this module's parameter nodes."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        """A parameter node that is not yet in the scene."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The module's own tests; runTest() runs every method with "test" in its name."""

    def __init__(self, *arguments, **options):
        self.moduleTestNames: list[str] = []
        super().__init__(*arguments, **options)
        if not self.moduleTestNames:
            names = (name for name in dir(self) if "test" in name)
            self.moduleTestNames = [name for name in names if callable(getattr(self, name))]

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """Say what the test is doing."""
        slicer.util.delayDisplay(message, getattr(self, "messageDelay", msec or requestedDelay or 100))

    def runTest(self) -> None:
        """Run all tests; a module may override this with a selection."""
        self.setUpClass()
        for name in self.moduleTestNames:
            self.setUp()
            logging.info("Running %s", name)
            getattr(self, name)()
            self.tearDown()
        self.tearDownClass()
