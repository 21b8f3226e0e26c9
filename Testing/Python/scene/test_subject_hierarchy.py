# SPDX-License-Identifier: Apache-2.0
"""Results lie in the study of their input, and the panel knows beforehand whether DICOM export can work."""

import pytest
import slicer

from ProstateXferSlicer.scene.subject_hierarchy import (
    StudyOfNode,
    dicomOriginMissing,
    placeBeside,
    studyOf,
)


@pytest.fixture
def hierarchy(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


@pytest.fixture
def nodes(scene):
    return [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("T2 größer", "synthetic CT")]


@pytest.fixture
def dicom_input(hierarchy, nodes):
    """The first node in a study, as Slicer's DICOM module leaves it."""
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Müller (P1)")
    hierarchy.SetItemUID(patient, "DICOM", "P1")
    study = hierarchy.CreateStudyItem(patient, "Prostate (20260102)")
    hierarchy.SetItemUID(study, "DICOM", "1.2.3")
    series = hierarchy.CreateItem(study, nodes[0])
    hierarchy.SetItemUID(series, "DICOM", "1.2.3.4")
    nodes[0].SetAttribute("DICOM.instanceUIDs", "1.2.3.4.5 1.2.3.4.6")
    return nodes[0], study


def test_a_result_lies_in_the_study_of_its_input(hierarchy, nodes, dicom_input):
    source, study = dicom_input

    placeBeside(nodes[1], source)

    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes[1])) == study
    assert studyOf(nodes[1]).studyInstanceUid == "1.2.3"


def test_a_result_that_slicer_has_put_elsewhere_is_moved(hierarchy, nodes, dicom_input):
    source, study = dicom_input
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), nodes[1])

    placeBeside(nodes[1], source)

    assert hierarchy.GetItemByDataNode(nodes[1]) == item
    assert hierarchy.GetItemParent(item) == study


def test_a_chart_takes_its_bars_along(scene, hierarchy, dicom_input):
    source, study = dicom_input
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "bars")
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "chart")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())

    placeBeside(chart, source)

    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (series, chart)]
    assert parents == [study, study]


def test_without_a_study_the_folder_counts(hierarchy, nodes):
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Ordner")
    hierarchy.CreateItem(folder, nodes[0])

    placeBeside(nodes[1], nodes[0])

    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes[1])) == folder


def test_without_any_of_them_both_lie_in_the_scene(hierarchy, nodes):
    placeBeside(nodes[1], nodes[0])

    parents = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes]
    assert parents == [hierarchy.GetSceneItemID()] * 2


def test_patient_and_study_are_known_for_what_came_from_dicom(dicom_input):
    assert studyOf(dicom_input[0]) == StudyOfNode(
        patientName="Müller (P1)",
        patientId="P1",
        studyName="Prostate (20260102)",
        studyInstanceUid="1.2.3",
        seriesInstanceUid="1.2.3.4",
    )
    assert dicomOriginMissing(dicom_input[0]) is None


def test_a_study_made_by_hand_has_names_but_no_identifiers(hierarchy, nodes):
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Anna")
    hierarchy.CreateItem(hierarchy.CreateStudyItem(patient, "Studie"), nodes[0])

    assert studyOf(nodes[0]) == StudyOfNode(patientName="Anna", studyName="Studie")
    assert "DICOM export of the result will not be possible" in dicomOriginMissing(nodes[0])


def test_a_file_from_disk_is_named_in_the_sentence(nodes):
    sentence = dicomOriginMissing(nodes[0])

    assert sentence.startswith("'T2 größer' was not loaded from DICOM")
    assert studyOf(nodes[0]) == StudyOfNode()
