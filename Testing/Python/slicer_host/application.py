# SPDX-License-Identifier: Apache-2.0
"""`slicer.app`: as much of qSlicerApplication as modules and Slicer's own Python sources use."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import slicer
from PySide6 import QtCore, QtWidgets

from slicer_host.dialogs import dialogs
from slicer_host.io_manager import IOManager
from slicer_host.layout_manager import LayoutManager
from slicer_host.modules import ModuleManager


class MainWindow(QtWidgets.QMainWindow):
    """`slicer.util.mainWindow()`; remembers which modules were selected."""

    def __init__(self, modules: ModuleManager):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._modules = modules

    def moduleSelector(self):
        """What slicer.util.selectModule talks to."""
        return self._modules


class Application(QtCore.QObject):
    """One per process, for a given version of Slicer; see `hasMainWindow` for a Slicer without one."""

    startupCompleted = QtCore.Signal()
    applicationName = "Slicer"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"
    platform, os, arch = "linux-amd64", "linux", "amd64"
    revision = "00000"

    def __init__(self, mrml, version: tuple[int, int]):
        super().__init__()
        self.majorVersion, self.minorVersion = version
        self.applicationVersion = f"{version[0]}.{version[1]}.0-2026-01-01"
        self.slicerHome = tempfile.mkdtemp(prefix="slicer-home-")
        self.temporaryPath = mrml.applicationLogic.GetTemporaryPath()
        self._mrml = mrml
        self._layoutManager, self._ioManager = LayoutManager(mrml), IOManager(mrml)
        self._moduleManager = ModuleManager(mrml)
        self._options = SimpleNamespace(runPythonAndExit=False, noMainWindow=False, testingEnabled=True)
        self._mainWindow: MainWindow | None = None

    # the window

    @property
    def hasMainWindow(self) -> bool:
        """Not in Slicer: switch it off to be a Slicer started with --no-main-window."""
        return self._mainWindow is not None

    @hasMainWindow.setter
    def hasMainWindow(self, wanted: bool) -> None:
        self._mainWindow = (self._mainWindow or MainWindow(self._moduleManager)) if wanted else None

    def topLevelWidgets(self) -> list:
        """The main window, where there is one."""
        return [self._mainWindow] if self._mainWindow is not None else []

    def layoutManager(self) -> LayoutManager | None:
        """None without a main window."""
        return self._layoutManager if self.hasMainWindow else None

    # parts of the application

    def mrmlScene(self):
        """The scene."""
        return self._mrml.scene

    def applicationLogic(self):
        """The application's logic."""
        return self._mrml.applicationLogic

    def coreIOManager(self) -> IOManager:
        """Reads and writes files."""
        return self._ioManager

    ioManager = coreIOManager

    def moduleManager(self) -> ModuleManager:
        """Knows the modules."""
        return self._moduleManager

    def commandOptions(self) -> SimpleNamespace:
        """Of the command line."""
        return self._options

    def userSettings(self) -> QtCore.QSettings:
        """The user's settings; the host's own are in a folder that is thrown away."""
        return QtCore.QSettings()

    settings = revisionUserSettings = userSettings

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        """The environment Slicer was started in, without what its launcher adds."""
        return QtCore.QProcessEnvironment.systemEnvironment()

    def testingEnabled(self) -> bool:
        """True, as under `Slicer --testing`."""
        return self._options.testingEnabled

    # what it does

    def processEvents(self) -> None:
        """Let Qt work off what has happened."""
        QtWidgets.QApplication.processEvents()

    def translate(self, _context: str, text: str) -> str:
        """There is no translation."""
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        """Where the documentation of a module lies."""
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def setOverrideCursor(self, cursor) -> None:
        """Show the wait cursor, for one."""
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        """Undo setOverrideCursor."""
        QtWidgets.QApplication.restoreOverrideCursor()

    def pauseRender(self) -> None:
        """Nothing is drawn."""

    def resumeRender(self) -> None:
        """Nothing is drawn."""

    def exit(self, code: int) -> None:
        """Written down only; the process goes on."""
        dialogs.exitCodes.append(code)


def makeApplication(mrml, version: tuple[int, int]) -> Application:
    """Make `slicer.app` and `slicer.modules`."""
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    QtCore.QSettings.setPath(
        QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, tempfile.mkdtemp(prefix="settings-")
    )
    app = slicer.app = Application(mrml, version)
    slicer.modules = app.moduleManager().namespace
    app.hasMainWindow = True
    return app


def forgetSettings() -> None:
    """Every test begins with empty settings."""
    QtCore.QSettings().clear()
    Path(QtCore.QSettings().fileName()).unlink(missing_ok=True)
