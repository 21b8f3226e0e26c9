# SPDX-License-Identifier: Apache-2.0
"""The module's panel, opened and run as a user does it, and its picture."""

import sys
import time
from typing import Any

import numpy as np
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from slicer_host import paths

WIDTH = 480
_LONGEST_RUN_S = 1800


def openPanel() -> Any:
    """Load the module and show its panel; the widget that holds it."""
    module = slicer.app.moduleManager().loadScripted(paths.moduleFolder() / "ProstateXfer.py")
    slicer.app.startupCompleted.emit()
    panel = module.widgetRepresentation()
    QtWidgets.QWidget.resize(panel, WIDTH, 1200)
    panel.show()
    slicer.app.moduleManager().selectModule(module.name)
    return panel


def runPanel(ui: Any) -> None:
    """Press Run and wait for the end of the run.

    Raises:
        RuntimeError: the run did not end well.
    """
    if not ui.applyButton.enabled:
        raise RuntimeError(ui.applyButton.toolTip)
    ui.applyButton.click()
    deadline = time.monotonic() + _LONGEST_RUN_S
    told = ""
    while ui.applyButton.text == "Cancel":
        if time.monotonic() > deadline:
            ui.applyButton.click()
            raise RuntimeError("the run takes too long")
        slicer.app.processEvents()
        if (step := ui.statusLabel.text.partition(" · ")[0]) != told:
            told = step
            print(f"  {step}", file=sys.stderr)
        time.sleep(0.02)
    if not ui.statusLabel.text.startswith("Done"):
        raise RuntimeError(ui.statusLabel.text)


def panelPicture(panel: Any, *, scale: int = 2) -> np.ndarray:
    """The whole panel as pixels (height, width, 3), `scale` pixels to a point, however tall it is."""
    for _ in range(3):  # what is shown settles over some rounds of layout
        QtWidgets.QWidget.resize(panel, WIDTH, QtWidgets.QWidget.sizeHint(panel).height())
        slicer.app.processEvents()
    size = QtCore.QSize(panel.width, panel.height)
    image = QtGui.QImage(size * scale, QtGui.QImage.Format_RGB888)
    image.setDevicePixelRatio(scale)
    image.fill(QtGui.QColor(255, 255, 255))
    painter = QtGui.QPainter(image)
    QtWidgets.QWidget.render(panel, painter, QtCore.QPoint(0, 0))
    painter.end()
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()
