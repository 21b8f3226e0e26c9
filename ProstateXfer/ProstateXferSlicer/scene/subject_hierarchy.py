# SPDX-License-Identifier: Apache-2.0
"""Results in the study of the image they come from, so that the Data module and DICOM export find them together."""

from dataclasses import dataclass

import slicer

_DICOM_UIDS = "DICOM.instanceUIDs"


@dataclass(frozen=True)
class StudyOfNode:
    """Patient and study a node lies under; None where there is no such item, or where it has no such value."""

    patientName: str | None = None
    patientId: str | None = None
    studyName: str | None = None
    studyInstanceUid: str | None = None
    seriesInstanceUid: str | None = None


def placeBeside(node, inputNode) -> None:
    """Put the node under the parent of the input: its study, else its folder, else the scene itself.

    The series of a chart, which Slicer lists on their own, go with it.
    """
    hierarchy = _hierarchy()
    parent = hierarchy.GetItemParent(_itemOf(inputNode, hierarchy))
    for member in (node, *_seriesOf(node)):
        # Where the node has an item already, this moves it.
        hierarchy.CreateItem(parent, member)


def studyOf(node) -> StudyOfNode:
    """The patient and the study the node lies under, with the identifiers of those that came from DICOM."""
    hierarchy = _hierarchy()
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    item = hierarchy.GetItemByDataNode(node)
    if not item:
        return StudyOfNode()
    patient = hierarchy.GetItemAncestorAtLevel(item, constants.GetDICOMLevelPatient())
    study = hierarchy.GetItemAncestorAtLevel(item, constants.GetDICOMLevelStudy())

    def uid(itemId: int) -> str | None:
        return (hierarchy.GetItemUID(itemId, constants.GetDICOMUIDName()) or None) if itemId else None

    def name(itemId: int) -> str | None:
        return (hierarchy.GetItemName(itemId) or None) if itemId else None

    return StudyOfNode(name(patient), uid(patient), name(study), uid(study), uid(item))


def dicomOriginMissing(node) -> str | None:
    """A sentence for the panel when the node did not come from DICOM and so cannot be the basis of an export."""
    study = studyOf(node)
    if (node.GetAttribute(_DICOM_UIDS) or study.seriesInstanceUid) and study.studyInstanceUid:
        return None
    return (
        f"'{node.GetName()}' was not loaded from DICOM, so DICOM export of the result will not be possible: load the "
        "image with the DICOM module if you need it."
    )


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _seriesOf(node) -> list:
    """The plot series of a chart; nothing for other nodes."""
    if not node.IsA("vtkMRMLPlotChartNode"):
        return []
    series = [node.GetNthPlotSeriesNode(index) for index in range(node.GetNumberOfPlotSeriesNodes())]
    return [member for member in series if member is not None]


def _itemOf(node, hierarchy) -> int:
    """The node's item; the application makes them by itself, slicer-core does not."""
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
