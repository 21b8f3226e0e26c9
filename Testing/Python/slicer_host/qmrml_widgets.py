# SPDX-License-Identifier: Apache-2.0
"""Slicer's own widgets as far as a panel uses them; what they show comes from the real MRML nodes."""

from typing import ClassVar

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from slicer_host import ctk_module
from slicer_host.node_combo_box import qMRMLNodeComboBox
from slicer_host.stand_in import Observations, requireClass, stored
from slicer_host.ui_loader import registerClass


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene and tells those inside it when it is given one."""

    slicerClass = True
    slicerSignals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = QtCore.Signal(object)
    _scene = None

    def mrmlScene(self):
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene) -> None:
        """Take the scene and pass it on through the signal; the .ui file says to whom."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLTableView(QtWidgets.QTableView):
    """Shows the columns and rows of a table node and follows its changes."""

    slicerClass = True
    slicerSignals: ClassVar[dict[str, str]] = {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "selectionChanged()": "tableSelectionChanged",
    }
    mrmlSceneChanged = QtCore.Signal(object)
    tableSelectionChanged = QtCore.Signal()
    transposed = stored(bool, "transposed", False)
    firstRowLocked = stored(bool, "firstRowLocked", False)
    firstColumnLocked = stored(bool, "firstColumnLocked", False)
    _scene = _node = _observed = _items = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self._observed, self._items = Observations(self), QtGui.QStandardItemModel(self)
        self.setModel(self._items)
        self.selectionModel().selectionChanged.connect(lambda *_: self.tableSelectionChanged.emit())

    def mrmlScene(self):
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene) -> None:
        """Take the scene."""
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlTableNode(self):
        """The table node, or None."""
        return self._node

    def setMRMLTableNode(self, node) -> None:
        """Show this table."""
        requireClass(node, "vtkMRMLTableNode", "setMRMLTableNode")
        self._node = node
        self._observed.clear()
        if node is not None:
            self._observed.add(node, self._update)
        self._update()

    def _update(self) -> None:
        table = self._node.GetTable() if self._node is not None else None
        columns = range(table.GetNumberOfColumns()) if table is not None else []
        self._items.clear()
        self._items.setHorizontalHeaderLabels([self._title(column) for column in columns])
        for column in columns:
            for row in range(table.GetNumberOfRows()):
                self._items.setItem(row, column, QtGui.QStandardItem(table.GetValue(row, column).ToString()))

    def _title(self, column: int) -> str:
        name = self._node.GetColumnName(column)
        return (self._node.GetColumnTitle(name) if self._node.GetUseColumnTitleAsColumnHeader() else "") or name


class qMRMLSegmentsTableView(qMRMLWidget):
    """Lists the segments of a segmentation node."""

    selectionMode = stored(int, "selectionMode", 3)
    headerVisible = stored(bool, "headerVisible", True)
    visibilityColumnVisible = stored(bool, "visibilityColumnVisible", True)
    colorColumnVisible = stored(bool, "colorColumnVisible", True)
    opacityColumnVisible = stored(bool, "opacityColumnVisible", True)
    statusColumnVisible = stored(bool, "statusColumnVisible", False)
    layerColumnVisible = stored(bool, "layerColumnVisible", False)
    readOnly = stored(bool, "readOnly", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)
    textFilter = stored(str, "textFilter", "")
    jumpToSelectedSegmentEnabled = stored(bool, "jumpToSelectedSegmentEnabled", False)
    slicerSignals: ClassVar[dict[str, str]] = {
        **qMRMLWidget.slicerSignals,
        "selectionChanged(QItemSelection,QItemSelection)": "segmentSelectionChanged",
    }
    segmentSelectionChanged = QtCore.Signal(object, object)
    _node = _observed = _list = None
    segmentCount = QtCore.Property(int, lambda self: self._list.count)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._observed, self._list = Observations(self), QtWidgets.QListWidget()
        QtWidgets.QVBoxLayout(self).addWidget(self._list)
        tell = self.segmentSelectionChanged.emit
        self._list.selectionModel().selectionChanged.connect(lambda selected, deselected: tell(selected, deselected))

    def segmentationNode(self):
        """The segmentation node, or None."""
        return self._node

    def setSegmentationNode(self, node) -> None:
        """Show the segments of this node."""
        requireClass(node, "vtkMRMLSegmentationNode", "setSegmentationNode")
        self._node = node
        self._observed.clear()
        if node is not None:
            for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved):
                self._observed.add(node.GetSegmentation(), self._update, event)
            self._observed.add(node.GetSegmentation(), self._update, slicer.vtkSegmentation.SegmentModified)
        self._update()

    def displayedSegmentIDs(self) -> tuple[str, ...]:
        """The ids of the rows."""
        items = (self._list.item(row) for row in range(self._list.count))
        return tuple(item.data(QtCore.Qt.UserRole) for item in items)

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        """The ids of the rows that are selected."""
        return tuple(item.data(QtCore.Qt.UserRole) for item in self._list.selectedItems())

    def setSelectedSegmentIDs(self, ids) -> None:
        """Select these rows and no other."""
        for row, name in enumerate(self.displayedSegmentIDs()):
            self._list.item(row).setSelected(name in ids)

    def _update(self) -> None:
        self._list.clear()
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        for name in segmentation.GetSegmentIDs() if segmentation is not None else ():
            item = QtWidgets.QListWidgetItem(segmentation.GetSegment(name).GetName(), self._list)
            item.setData(QtCore.Qt.UserRole, name)


class qMRMLSegmentationShow3DButton(ctk_module.ctkMenuButton):
    """Shows and hides the closed surface of a segmentation."""

    slicerClass = True
    locked = stored(bool, "locked", False)
    _node = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._onToggled)

    def segmentationNode(self):
        """The segmentation node, or None."""
        return self._node

    def setSegmentationNode(self, node) -> None:
        """Show the surface of this node; without a node the button is grey."""
        requireClass(node, "vtkMRMLSegmentationNode", "setSegmentationNode")
        self._node = node
        self.setEnabled(node is not None)
        surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        blocked = self.blockSignals(True)
        self.setChecked(node is not None and node.GetSegmentation().ContainsRepresentation(surface))
        self.blockSignals(blocked)

    def _onToggled(self, checked: bool) -> None:
        if checked:
            self._node.CreateClosedSurfaceRepresentation()
        elif self._node is not None:
            self._node.RemoveClosedSurfaceRepresentation()


class qMRMLPlotView(QtWidgets.QWidget):
    """Inert: keeps the view node and draws nothing."""

    slicerClass = True
    _scene = _viewNode = None

    def setMRMLScene(self, scene) -> None:
        """Take the scene."""
        self._scene = scene

    def setMRMLPlotViewNode(self, node) -> None:
        """Take the view node, which says what chart to draw."""
        self._viewNode = node

    def mrmlPlotViewNode(self):
        """The view node, or None."""
        return self._viewNode


class qMRMLSliderWidget(ctk_module.ctkSliderWidget):
    """A slider that can show a quantity's unit."""

    quantity = stored(str, "quantity", "")

    def setMRMLScene(self, _scene) -> None:
        """Slicer takes the units from there."""


class qMRMLSpinBox(ctk_module.ctkDoubleSpinBox):
    """A spin box that can show a quantity's unit."""

    quantity = stored(str, "quantity", "")

    def setMRMLScene(self, _scene) -> None:
        """Slicer takes the units from there."""


class qMRMLRangeWidget(ctk_module.ctkRangeWidget):
    """Inert: no panel of this project has one."""


def install() -> None:
    """Make them attributes of `slicer` and known to the .ui loader."""
    for name, value in globals().items():
        if name.startswith("qMRML"):
            setattr(slicer, name, registerClass(value))


__all__ = ["install", "qMRMLNodeComboBox", "qMRMLWidget"]
