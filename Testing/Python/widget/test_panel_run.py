# SPDX-License-Identifier: Apache-2.0
"""A run from the panel: what is seen while it goes on, and what is in the scene when it is over."""

import json

import numpy as np
import pytest
import slicer
import vtk

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferSlicer.scene.provenance import provenanceOf
from study_child.fixtures import until


@pytest.fixture
def study(study_of):
    """Prostate and DIL."""
    return study_of("prostate", "dil")


@pytest.fixture
def finished(panel, t2w_volume, study):
    """The panel after a run of the default tasks."""
    panel.choose(t2w=t2w_volume)
    panel.run(study)
    return panel


def folder_of(node):
    """The subject hierarchy item above a node."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))


def terminology_of(segment):
    """The codes of a segment."""
    value = vtk.reference("")
    assert segment.GetTag(segment.GetTerminologyEntryTagName(), value)
    return str(value)


def test_the_button_becomes_cancel_and_back_and_the_bar_is_there_meanwhile(panel, t2w_volume, study):
    panel.choose(t2w=t2w_volume)
    ui = panel.ui
    assert ui.applyButton.text == "Run" and ui.progressBar.isHidden()
    panel.startAndWaitForChild(study=study)
    assert ui.applyButton.text == "Cancel" and ui.applyButton.enabled and not ui.progressBar.isHidden()
    panel.child.goOn()
    until(lambda: not panel.isRunning())
    assert ui.progressBar.isHidden()
    assert ui.statusLabel.text.startswith("Done in ")


def test_bar_status_and_log_follow_the_child(panel, t2w_volume, study):
    panel.choose(t2w=t2w_volume)
    panel.startAndWaitForChild(
        study=study,
        lines=[
            {"event": "progress", "step": "Segmenting the prostate", "fraction": 0.25, "message": "slice 5 of 20"},
            {"event": "warning", "message": "The image is cut off"},
            "a line of the log: Öl",
        ],
        errors=["and one on the other channel"],
    )
    ui = panel.ui
    until(lambda: "other channel" in ui.logTextEdit.toPlainText() and "Öl" in ui.logTextEdit.toPlainText())
    assert ui.progressBar.value == ui.progressBar.maximum // 4
    assert ui.statusLabel.text.startswith("Segmenting the prostate · slice 5 of 20")
    assert "Warning: The image is cut off" in ui.logTextEdit.toPlainText().splitlines()
    panel.child.goOn()
    until(lambda: not panel.isRunning())


def test_the_log_of_the_run_before_is_cleared(panel, t2w_volume, study):
    panel.choose(t2w=t2w_volume)
    panel.run(study, lines=["of the first run"])
    panel.run(study, lines=["of the second run"])
    assert panel.ui.logTextEdit.toPlainText().splitlines() == ["of the second run"]


def test_what_the_user_must_know_stands_below_done(panel, t2w_volume, study):
    values = json.loads((study / "study.json").read_text(encoding="utf-8"))
    values["warnings"] = ["The lesion touches the border of the image."]
    (study / "study.json").write_text(json.dumps(values))
    panel.choose(t2w=t2w_volume)
    panel.run(study)
    assert panel.ui.statusLabel.text.splitlines()[1:] == values["warnings"]


def test_the_segmentation_is_named_coloured_and_coded_and_lies_on_the_image(finished, t2w_volume):
    node = finished.parameters.segmentation
    assert node.GetName() == "T2w segmentation"
    segmentation = node.GetSegmentation()
    assert segmentation.GetSegmentIDs() == ("Prostate", "DIL")
    codes = {"Prostate": "SCT^41216001^Prostate", "DIL": "SCT^4147007^Mass"}
    colours = {segmentation.GetSegment(name).GetColor() for name in codes}
    assert len(colours) == 2 and (0.5, 0.5, 0.5) not in colours
    for name, code in codes.items():
        assert segmentation.GetSegment(name).GetName() == name
        assert code in terminology_of(segmentation.GetSegment(name))
    geometry = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    assert segmentation.GetConversionParameter(geometry)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Prostate", t2w_volume)
    assert voxels.shape == slicer.util.arrayFromVolume(t2w_volume).shape


def test_the_prostate_in_the_scene_is_the_prostate_of_the_phantom(finished, t2w_volume, phantom_study):
    import SimpleITK as sitk

    found = slicer.util.arrayFromSegmentBinaryLabelmap(finished.parameters.segmentation, "Prostate", t2w_volume) > 0
    true = sitk.GetArrayFromImage(phantom_study.labels) > 0
    assert 2 * np.sum(found & true) / (np.sum(found) + np.sum(true)) > 0.7


def test_table_points_and_chart_say_what_the_run_measured(finished, study):
    rows, parameters = StudyResult.read(study).measurements, finished.parameters
    table = parameters.measurements.GetTable()
    assert table.GetNumberOfRows() == len(rows) >= 2
    for number, row in enumerate(rows):
        assert table.GetColumnByName("id").GetValue(number) == row.id
        assert table.GetColumnByName("volume_cm3").GetValue(number) == pytest.approx(row.volume_cm3)
        point = [0.0] * 3
        parameters.centroids.GetNthControlPointPositionWorld(number, point)
        assert point == pytest.approx(row.centroid_ras, abs=1e-6)
        assert finished.cell(number, 0).strip() == row.id
        assert finished.cell(number, 1) == f"{row.volume_cm3:.2f}"
        assert [finished.cell(number, column) for column in (3, 4, 5)] == [f"{value:.1f}" for value in row.centroid_ras]
    assert parameters.volumesChart.GetNumberOfPlotSeriesNodes() == 1
    assert parameters.volumesChart.GetNthPlotSeriesNode(0).GetTableNode() is parameters.measurements


def test_every_result_lies_beside_its_input_in_the_subject_hierarchy(panel, t2w_volume, study):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Müller")
    examination = hierarchy.CreateStudyItem(patient, "MR pelvis")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(t2w_volume), examination)
    panel.choose(t2w=t2w_volume)
    panel.run(study)
    parameters = panel.parameters
    for name in ("segmentation", "measurements", "centroids", "volumesChart", "uncertaintyMap"):
        assert folder_of(getattr(parameters, name)) == examination, name


def test_each_result_says_what_made_it(finished, study):
    record = StudyResult.read(study)
    for name in ("segmentation", "measurements", "centroids", "volumesChart", "uncertaintyMap"):
        kept = provenanceOf(getattr(finished.parameters, name))
        assert kept["ResearchUseOnly"] is True
        model = kept["Provenance"]["segmentation"]["models"][0]
        assert model == record.provenance["segmentation"]["models"][0]
        assert kept["Options"] == record.options.to_arguments()


def test_two_runs_keep_both_results_and_the_panel_shows_the_newer(finished, study):
    first = finished.parameters.segmentation
    values = json.loads((study / "study.json").read_text(encoding="utf-8"))
    values["measurements"][0]["volume_cm3"] = 12.34
    (study / "study.json").write_text(json.dumps(values))
    finished.run(study)
    second = finished.parameters.segmentation
    assert second is not first and slicer.mrmlScene.IsNodePresent(first)
    assert [first.GetName(), second.GetName()] == ["T2w segmentation", "T2w segmentation_1"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 2
    assert finished.cell(0, 1) == "12.34"


def test_another_task_forgets_the_results_of_the_first_without_removing_them(finished, cbct_volume, study_of):
    segmentation = finished.parameters.segmentation
    finished.choose(cbct=cbct_volume, prostate=False, dil=False, ctFromCbct=True)
    finished.run(study_of("ct-from-cbct"))
    assert finished.parameters.segmentation is None and slicer.mrmlScene.IsNodePresent(segmentation)
    assert finished.ui.resultsTable.rowCount == 0
    assert finished.parameters.syntheticCtFromCbct.GetName() == "CBCT synthetic CT"


def test_names_beyond_ascii_come_through(panel, t2w_volume, study):
    t2w_volume.SetName("前立腺 T2 für Öl")
    panel.choose(t2w=t2w_volume)
    panel.run(study)
    assert panel.ui.statusLabel.text.startswith("Done")
    assert panel.parameters.segmentation.GetName() == "前立腺 T2 für Öl segmentation"


def test_the_child_gets_files_in_the_world_and_the_choices_of_the_panel(panel, t2w_volume, ct_volume, study_of):
    panel.choose(t2w=t2w_volume, referenceCt=ct_volume, prostate=False, dil=False, ctFromMr=True)
    panel.choose(device="cpu", precision="fp32", testTimeAugmentation=True, uncertainty=False)
    panel.run(study_of("ct-from-mr"))
    words = panel.child.calls[0]["words"]
    assert words[0] == "study" and words[-1] == "--json"
    assert {"--device=cpu", "--precision=fp32", "--tta", "--no-uncertainty"} < set(words)
    assert words[words.index("--tasks") + 1] == "ct-from-mr"
    assert [word.split("=")[0] for word in words if word.startswith(("--t2w", "--ref"))] == ["--t2w", "--reference-ct"]
