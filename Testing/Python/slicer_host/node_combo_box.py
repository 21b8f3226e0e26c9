# SPDX-License-Identifier: Apache-2.0
"""The combo box that lists the scene's nodes of some types."""

from collections.abc import Iterator
from typing import ClassVar

import slicer
from PySide6 import QtCore, QtWidgets

from slicer_host.stand_in import Observations, stored


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Lists nodes by type and attribute and follows the scene; grey until it has one.

    Rules of Slicer's that code comes to rely on: without "None" the first node that comes is selected; a node wanted
    before the scene is known is selected then; when the selected node goes, its neighbour is selected.
    """

    slicerClass = True
    slicerSignals: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeValid",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
    }
    currentNodeChanged = QtCore.Signal(object)
    currentNodeValid = QtCore.Signal(bool)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeActivated = QtCore.Signal(object)

    nodeTypes = stored("QStringList", "nodeTypes", [], "_update")
    showHidden = stored(bool, "showHidden", False, "_update")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, "_update")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], "_update")
    noneEnabled = stored(bool, "noneEnabled", False, "_update")
    noneDisplay = stored(str, "noneDisplay", "None", "_update")
    baseName = stored(str, "baseName", "")
    addEnabled = stored(bool, "addEnabled", True)
    removeEnabled = stored(bool, "removeEnabled", True)
    editEnabled = stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "Singleton")
    currentNodeID = QtCore.Property(
        str,
        lambda self: self._current.GetID() if self._current is not None else "",
        lambda self, value: self.setCurrentNodeID(value),
    )

    _scene = _current = _wanted = _comboBox = _attributes = _nodes = _ofScene = _ofNodes = None

    def __init__(self, parent=None):
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._comboBox = QtWidgets.QComboBox()
        self._comboBox.activated.connect(self._onActivated)
        row.addWidget(self._comboBox)
        self._attributes, self._nodes = [], []
        self._ofScene, self._ofNodes = Observations(self), Observations(self)
        self.setEnabled(False)

    # the scene

    def mrmlScene(self):
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene) -> None:
        """List the nodes of this scene and follow it."""
        if scene is self._scene:
            return
        self._ofScene.clear()
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._ofScene.add(scene, self._update, event)
        self.setEnabled(scene is not None)
        wanted, self._wanted = self._wanted, None
        self._update()
        if wanted is not None:
            self.setCurrentNode(self._scene.GetNodeByID(wanted) if isinstance(wanted, str) else wanted)

    def _matches(self, node) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if self.showChildNodeTypes:
            fits = any(node.IsA(name) for name in self.nodeTypes)
        else:
            fits = node.GetClassName() in self.nodeTypes
        if not fits or any(node.IsA(name) for name in self.hideChildNodeTypes):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for nodeType, name, value in self._attributes
            if node.IsA(nodeType)
        )

    def _candidates(self) -> Iterator:
        for index in range(self._scene.GetNumberOfNodes() if self._scene is not None else 0):
            node = self._scene.GetNthNode(index)
            if any(node.IsA(name) for name in self.nodeTypes):
                yield node

    def _update(self) -> None:
        """Make the list anew from the scene."""
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before, row = self._nodes, self._nodes.index(self._current) if self._current in self._nodes else 0
        candidates = list(self._candidates())
        self._observeNodes(candidates)
        self._nodes = [node for node in candidates if self._matches(node)]
        self._comboBox.clear()
        if self.noneEnabled:
            self._comboBox.addItem(self.noneDisplay)
        self._comboBox.addItems([node.GetName() or "" for node in self._nodes])
        for node in self._nodes:
            if node not in before:
                self.nodeAdded.emit(node)
        if self._current not in self._nodes:
            gone = self._current is not None
            isFree = self._nodes and (gone or not self.noneEnabled)
            self._select(self._nodes[min(row, len(self._nodes) - 1)] if isFree else None)
        self._showCurrent()

    def _observeNodes(self, nodes: list) -> None:
        """Names, attributes and the hidden flag of a node can change later."""
        self._ofNodes.clear()
        for node in nodes:
            self._ofNodes.add(node, self._onNodeModified)

    def _onNodeModified(self) -> None:
        shown = [self._comboBox.itemText(row) for row in range(self._comboBox.count)][self.noneEnabled :]
        wanted = [node for node in self._candidates() if self._matches(node)]
        if wanted != self._nodes or shown != [node.GetName() or "" for node in wanted]:
            self._update()

    # the current node

    def currentNode(self):
        """The selected node, or None."""
        return self._current

    def setCurrentNode(self, node) -> None:
        """Select a node of the list; None, or one that is not in the list, selects "None" (or nothing)."""
        if node is not None and not isinstance(node, slicer.vtkMRMLNode):
            raise TypeError(f"setCurrentNode does not take {node!r}")
        if self._scene is None:
            self._wanted = node
            return
        self._select(node if node in self._nodes else None)
        self._showCurrent()

    def setCurrentNodeID(self, nodeId: str) -> None:
        """Select a node by its id."""
        if self._scene is None:
            self._wanted = nodeId
        else:
            self.setCurrentNode(self._scene.GetNodeByID(nodeId) if nodeId else None)

    def setCurrentNodeIndex(self, index: int) -> None:
        """Select by the position in the list, "None" not counted."""
        self.setCurrentNode(self._nodes[index] if 0 <= index < len(self._nodes) else None)

    def _select(self, node) -> None:
        if node is self._current:
            return
        self._current = node
        self._showCurrent()
        self.currentNodeChanged.emit(node)
        self.currentNodeValid.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def _showCurrent(self) -> None:
        row = self._nodes.index(self._current) + self.noneEnabled if self._current in self._nodes else 0
        self._comboBox.setCurrentIndex(row if self._current is not None or self.noneEnabled else -1)

    def _onActivated(self, row: int) -> None:
        node = self._nodes[row - self.noneEnabled] if row >= self.noneEnabled else None
        self._select(node)
        self.nodeActivated.emit(node)

    # nodes

    def nodeCount(self) -> int:
        """How many nodes are listed."""
        return len(self._nodes)

    def nodeFromIndex(self, index: int):
        """The node at a position of the list, or None."""
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        """List nodes of the type only if they have the attribute, with this value where one is given."""
        self._attributes.append((nodeType, name, value))
        self._update()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        """Take a filter away."""
        self._attributes = [entry for entry in self._attributes if entry[:2] != (nodeType, name)]
        self._update()

    def addNode(self, nodeType: str | None = None):
        """What "Create new ..." does: a node of the first type; it gets the attributes that are asked for."""
        nodeType = nodeType or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(nodeType)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self.baseName or node.GetNodeTagName()))
        for _, name, value in self._attributes:
            node.SetAttribute(name, value or "")
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        """What "Delete current ..." does."""
        self._scene.RemoveNode(self._current)
