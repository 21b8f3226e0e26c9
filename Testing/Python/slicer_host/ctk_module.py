# SPDX-License-Identifier: Apache-2.0
"""The module `ctk`: the widgets of CTK that a module's panel uses, written anew on PySide6.

Properties and signals have CTK's names and types. A widget has no more of them than CTK's, and some have fewer.
"""

import enum
import sys
from types import ModuleType

from PySide6 import QtCore, QtWidgets

from slicer_host.ctk_collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox  # noqa: F401
from slicer_host.stand_in import stored
from slicer_host.ui_loader import registerClass


class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box; CTK's can have an icon as indicator."""


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)


class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a small arrow for a menu."""


class ctkCheckablePushButton(QtWidgets.QPushButton):
    """A push button with a check box."""

    checkBoxControlsButton = stored(bool, "checkBoxControlsButton", True)
    checkBoxControlsButtonToggleState = stored(bool, "checkBoxControlsButtonToggleState", True)
    checkBoxUserCheckable = stored(bool, "checkBoxUserCheckable", True)


class ctkColorPickerButton(QtWidgets.QPushButton):
    """A push button that has a colour."""

    colorChanged = QtCore.Signal("QColor")

    def _tell(self):
        self.colorChanged.emit(self.color)

    color = stored("QColor", "color", None, "_tell")
    displayColorName = stored(bool, "displayColorName", True)


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that can be told not to come again."""

    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as high as its text."""

    collapsed = stored(bool, "collapsed", True)
    collapsibleText = stored(str, "collapsibleText", "")


def _forwarded(kind, name: str) -> QtCore.Property:
    return QtCore.Property(
        kind,
        lambda self: getattr(self._spinBox, name),
        lambda self, value: setattr(self._spinBox, name, value),
    )


class _NumberWidget(QtWidgets.QWidget):
    """A number between two limits; a spin box does the work."""

    slicerClass = True
    valueChanged = QtCore.Signal(float)
    value, minimum, maximum = _forwarded(float, "value"), _forwarded(float, "minimum"), _forwarded(float, "maximum")
    singleStep = _forwarded(float, "singleStep")
    _spinBox = None

    def __init__(self, parent=None):
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._spinBox = QtWidgets.QDoubleSpinBox()
        row.addWidget(self._spinBox)
        self._spinBox.valueChanged.connect(self.valueChanged)

    def setRange(self, minimum: float, maximum: float) -> None:
        """Both limits at once."""
        self._spinBox.setRange(minimum, maximum)


class ctkDoubleSlider(_NumberWidget):
    """A slider for numbers with decimals."""

    orientation = stored(int, "orientation", 1)
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)


class ctkDoubleSpinBox(_NumberWidget):
    """A spin box for numbers with decimals."""

    decimals, prefix, suffix = _forwarded(int, "decimals"), _forwarded(str, "prefix"), _forwarded(str, "suffix")


class ctkSliderWidget(_NumberWidget):
    """A slider with a spin box beside it."""

    valueIsChanging = QtCore.Signal(float)
    decimals, prefix, suffix = _forwarded(int, "decimals"), _forwarded(str, "prefix"), _forwarded(str, "suffix")
    pageStep = stored(float, "pageStep", 10.0)
    tickInterval = stored(float, "tickInterval", 0.0)
    tracking = stored(bool, "tracking", True)
    spinBoxVisible = stored(bool, "spinBoxVisible", True)
    popupSlider = stored(bool, "popupSlider", False)

    def spinBox(self) -> QtWidgets.QDoubleSpinBox:
        """The spin box."""
        return self._spinBox


class ctkRangeWidget(QtWidgets.QWidget):
    """Inert: no panel of this project has one."""


class ctkDoubleRangeSlider(QtWidgets.QWidget):
    """Inert: no panel of this project has one."""


class _PathFilter(enum.Flag):
    """What may be chosen in a ctkPathLineEdit."""

    Dirs = 0x1
    Files = 0x2
    Drives = 0x4
    NoSymLinks = 0x8
    Readable = 0x10
    Writable = 0x20
    Executable = 0x40
    Hidden = 0x100
    AllDirs = 0x400
    NoDotAndDotDot = 0x1000
    NoDot = 0x2000
    NoDotDot = 0x4000


class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for the path of a file or folder, with a button that opens a dialog."""

    slicerClass = True
    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    _line = None
    currentPath = QtCore.Property(str, lambda self: self._line.text, lambda self, value: self._line.setText(value))
    filters = stored(object, "filters", _PathFilter.Dirs | _PathFilter.Files | _PathFilter.Drives)
    nameFilters = stored("QStringList", "nameFilters", [])
    label = stored(str, "label", "")
    settingKey = stored(str, "settingKey", "")
    showBrowseButton = stored(bool, "showBrowseButton", True)
    showHistoryButton = stored(bool, "showHistoryButton", True)
    minimumContentsLength = stored(int, "minimumContentsLength", 0)

    def __init__(self, parent=None):
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._line = QtWidgets.QLineEdit()
        browse = QtWidgets.QToolButton()
        browse.text = "..."
        row.addWidget(self._line)
        row.addWidget(browse)
        self._line.textChanged.connect(self.currentPathChanged)
        browse.clicked.connect(lambda: self.browse())

    def browse(self) -> None:
        """Ask for a path; Cancel keeps the old one."""
        wanted = self.filters
        dialog = QtWidgets.QFileDialog
        ask = dialog.getOpenFileName if wanted & _PathFilter.Files else dialog.getExistingDirectory
        if wanted & _PathFilter.Files and wanted & _PathFilter.Writable:
            ask = dialog.getSaveFileName
        if path := ask(self, self.label or "Select a path", self.currentPath):
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        """Keep the path in the settings, under `settingKey`."""
        settings, key = QtCore.QSettings(), self.settingKey or self.objectName
        history = [path for path in settings.value(key, []) or [] if path != self.currentPath]
        settings.setValue(key, [self.currentPath, *history])

    def retrieveHistory(self) -> None:
        """Take the latest path from the settings."""
        history = QtCore.QSettings().value(self.settingKey or self.objectName, [])
        if history:
            self.setCurrentPath(history[0] if isinstance(history, list) else history)


for _filter in _PathFilter:
    setattr(ctkPathLineEdit, _filter.name, _filter)


class ctkDirectoryButton(QtWidgets.QPushButton):
    """A button that shows a folder and asks for another one when it is clicked."""

    slicerClass = True
    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)
    caption = stored(str, "caption", "")

    def _show(self):
        self.setText(self.directory)
        self.directoryChanged.emit(self.directory)

    directory = stored(str, "directory", QtCore.QDir.currentPath(), "_show")

    def __init__(self, parent=None):
        super().__init__(parent)
        self.clicked.connect(lambda: self.browse())

    def browse(self) -> str:
        """Ask for a folder; Cancel keeps the old one."""
        if path := QtWidgets.QFileDialog.getExistingDirectory(self, self.caption, self.directory):
            self.setDirectory(path)
            self.directorySelected.emit(path)
        return self.directory


def install() -> ModuleType:
    """Make `import ctk` work."""
    module = ModuleType("ctk", __doc__)
    for name, value in globals().items():
        if name.startswith("ctk"):
            setattr(module, name, registerClass(value))
    sys.modules["ctk"] = module
    return module
