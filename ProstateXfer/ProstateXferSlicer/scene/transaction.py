# SPDX-License-Identifier: Apache-2.0
"""Several nodes that belong together come into the scene together, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager

import slicer
import vtk


@contextmanager
def nodesOrNothing() -> Iterator[None]:
    """On an exception within, remove every node added within, with its storage, display and subject hierarchy item.

    Nodes of the application itself (singletons and the subject hierarchy) stay. However the block ends, the
    scene is no longer in a batch process that began within. A scene closed meanwhile has nothing left to remove.
    """
    scene = slicer.mrmlScene
    wasBatchProcessing = scene.IsBatchProcessing()
    added: list = []

    # Without the declared type, VTK hands Python no node.
    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(_caller, _event, node) -> None:
        added.append(node)

    tag = scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, onNodeAdded)
    try:
        yield
    except BaseException:
        _endBatchProcess(scene, wasBatchProcessing)
        _remove(added, scene)
        raise
    finally:
        scene.RemoveObserver(tag)
        _endBatchProcess(scene, wasBatchProcessing)


def _endBatchProcess(scene, wasBatchProcessing: bool) -> None:
    """End what was begun within; batch processes nest, so one end may not be enough."""
    while scene.IsBatchProcessing() and not wasBatchProcessing:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)


def _remove(nodes: list, scene) -> None:
    """Remove those of the nodes that are still there, the last first."""
    # Not by GetSubjectHierarchyNode, which would make one where there is none.
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    for node in reversed(nodes):
        if node.GetSingletonTag() or node is hierarchy or not scene.IsNodePresent(node):
            continue
        item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
        scene.RemoveNode(node)
        # The application does this by itself; slicer-core leaves an item that points to a node no longer there.
        if item and hierarchy.GetItemDataNode(item) is not None:
            hierarchy.RemoveItem(item, False, False)
