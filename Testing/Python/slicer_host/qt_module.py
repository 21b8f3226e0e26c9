# SPDX-License-Identifier: Apache-2.0
"""The module `qt`: PySide6's names in one module, as in Slicer, without those PythonQt does not have."""

import sys
from types import ModuleType

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from slicer_host import strict_qt
from slicer_host.dialogs import Message, dialogs
from slicer_host.ui_loader import StrictUiLoader

# Decorators of PySide, which begin with a Q like the classes.
_NOT_IN_PYTHONQT = {"QEnum", "QFlag", "QT_TR_NOOP", "QT_TR_NOOP_UTF8", "QT_TRANSLATE_NOOP", "QT_TRANSLATE_NOOP3"}


def _fileDialog(*arguments) -> str:
    """PythonQt gives the path alone, not PySide's pair; the second argument is the window's title."""
    return dialogs.nextPath(arguments[1] if len(arguments) > 1 else "")


def _fileDialogOfMany(*arguments) -> tuple[str, ...]:
    path = _fileDialog(*arguments)
    return (path,) if path else ()


def _runDialog(dialog, *_) -> int:
    """exec_() without a user: the box is written down, and `dialogs.onDialog` may act in it."""
    isBox = isinstance(dialog, QtWidgets.QMessageBox)
    dialogs.messages.append(Message("box" if isBox else "dialog", dialog.text if isBox else dialog.windowTitle))
    if dialogs.onDialog is not None:
        return dialogs.onDialog(dialog)
    if not isBox:
        return int(dialogs.confirm)
    return _answer(dialog.standardButtons)


def _answer(buttons) -> QtWidgets.QMessageBox.StandardButton:
    box = QtWidgets.QMessageBox
    yes = (box.Ok, box.Yes, box.Retry, box.Save)
    no = (box.Cancel, box.No, box.Close, box.Discard)
    return next((button for button in (yes if dialogs.confirm else no) if button & buttons), box.Ok)


def _box(kind: str, standard):
    def show(_parent, _title, text, buttons=standard, *_):
        dialogs.messages.append(Message(kind, text))
        return _answer(buttons)

    return staticmethod(show)


def _openUrl(url) -> bool:
    dialogs.openedUrls.append(url.toString() if isinstance(url, QtCore.QUrl) else str(url))
    return True


def _answerByHost() -> None:
    for name in ("getOpenFileName", "getSaveFileName", "getExistingDirectory"):
        setattr(QtWidgets.QFileDialog, name, staticmethod(_fileDialog))
    QtWidgets.QFileDialog.getOpenFileNames = staticmethod(_fileDialogOfMany)
    box = QtWidgets.QMessageBox
    for name, kind in (("information", "info"), ("warning", "warning"), ("critical", "error")):
        setattr(box, name, _box(kind, box.Ok))
    box.question = _box("confirm", box.Yes | box.No)
    QtWidgets.QDialog.exec = QtWidgets.QDialog.exec_ = _runDialog
    QtGui.QDesktopServices.openUrl = staticmethod(_openUrl)


def install() -> ModuleType:
    """Make Qt strict and `import qt` work."""
    strict_qt.install()
    module = ModuleType("qt", __doc__)
    for source in (QtUiTools, QtWidgets, QtGui, QtCore):
        names = (name for name in dir(source) if name.startswith("Q") and name not in _NOT_IN_PYTHONQT)
        vars(module).update({name: getattr(source, name) for name in names})
    module.QUiLoader = StrictUiLoader
    _answerByHost()
    sys.modules["qt"] = module
    return module


def ensureApplication() -> QtWidgets.QApplication:
    """The process's QApplication."""
    app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    app.setOrganizationName("NA-MIC")
    app.setApplicationName("Slicer")
    return app
