# SPDX-License-Identifier: Apache-2.0
"""The module over the life of scenes, of itself and of an application without a window."""

import logging
import sys

import numpy as np
import pytest
import slicer

from ProstateXferSlicer.scene.parameters import RESULTS, measurementsOf
from ProstateXferSlicer.scene.provenance import provenanceOf
from study_child.fixtures import Panel, until

PACKAGES = ("ProstateXfer", "ProstateXferSlicer", "ProstateXferLib")


@pytest.fixture
def scene_file(tmp_path):
    """Where a scene is saved: a name that is not easy."""
    folder = tmp_path / "Fälle mit Leerzeichen"
    folder.mkdir()
    return folder / "Prüfung 前立腺.mrb"


@pytest.fixture
def modules_kept():
    """A reload throws modules away; the tests after this one go on with those they have imported."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.modules.update(before)


def saved_and_loaded(path):
    """Save the scene, close it, load it again."""
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    slicer.util.loadScene(str(path))


def test_a_saved_scene_brings_back_choices_results_and_measurements(finished_panel, scene_file):
    panel = finished_panel
    panel.choose(device="cpu", dil=False, precision="fp32", ctFromMrModel="dgcf")
    panel.parameters.t2w.SetName("T2 für Öl")
    before = measurementsOf(panel.parameters)
    assert panel.parameters.samples is None  # one network without mirrorings has none
    kept = [name for name in (*RESULTS, "t2w", "cbct", "referenceCt") if name != "samples"]
    names = {name: getattr(panel.parameters, name).GetName() for name in kept}
    saved_and_loaded(scene_file)
    parameters, ui = panel.parameters, panel.ui
    assert {name: getattr(parameters, name).GetName() for name in names} == names
    assert ui.t2wSelector.currentNode().GetName() == "T2 für Öl"
    assert (parameters.device, ui.deviceComboBox.currentText, ui.dilCheckBox.checked) == ("cpu", "cpu", False)
    assert ui.precisionComboBox.currentText == "fp32" and ui.ctFromMrModelComboBox.currentText == "dgcf (not here)"
    assert measurementsOf(parameters) == before and ui.resultsTable.rowCount == len(before)
    assert not parameters.edited
    assert provenanceOf(parameters.segmentation)["ResearchUseOnly"] is True
    ui.remeasureButton.click()
    after = measurementsOf(parameters)
    assert [(row.id, row.voxel_count) for row in after] == [(row.id, row.voxel_count) for row in before]
    assert all(np.allclose(a.centroid_ras, b.centroid_ras, atol=0.01) for a, b in zip(after, before, strict=True))
    assert not parameters.edited


def test_a_saved_scene_remembers_an_edit_and_measures_it(finished_panel, scene_file):
    panel = finished_panel
    node, image = panel.parameters.segmentation, panel.parameters.measuredImage
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Prostate", image).copy()
    voxels[: voxels.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, "Prostate", image)
    old = measurementsOf(panel.parameters)[0].voxel_count
    panel.ui.remeasureButton.click()
    gland = measurementsOf(panel.parameters)[0].voxel_count
    assert gland < old
    saved_and_loaded(scene_file)
    assert panel.parameters.edited and "edited" in panel.ui.resultsLabel.text
    node, image = panel.parameters.segmentation, panel.parameters.measuredImage
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "Prostate", image) > 0, voxels > 0)
    panel.ui.remeasureButton.click()
    assert measurementsOf(panel.parameters)[0].voxel_count == gland
    assert panel.parameters.edited


def test_an_edit_after_loading_is_noticed(finished_panel, scene_file):
    saved_and_loaded(scene_file)
    assert not finished_panel.parameters.edited
    finished_panel.parameters.segmentation.GetSegmentation().RemoveSegment("DIL")
    assert finished_panel.parameters.edited


def test_a_scene_loaded_without_the_panel_is_shown_when_the_panel_comes(finished_panel, scene_file, slicer_host):
    from slicer_host import paths

    rows = finished_panel.ui.resultsTable.rowCount
    assert slicer.util.saveScene(str(scene_file))
    manager = slicer_host.moduleManager()
    manager.unload("ProstateXfer")
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(scene_file))
    manager.loadScripted(paths.moduleFolder() / "ProstateXfer.py").widgetRepresentation()
    manager.selectModule("ProstateXfer")
    assert slicer.modules.ProstateXferWidget.ui.resultsTable.rowCount == rows


def test_a_scene_from_before_the_module_loads_and_offers_its_only_volume(panel, t2w_volume, scene_file):
    module_node = panel.parameters.parameterNode
    slicer.mrmlScene.RemoveNode(module_node)
    assert slicer.util.saveScene(str(scene_file))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(scene_file))
    assert panel.parameters.prostate and panel.parameters.device == "auto"
    assert panel.parameters.t2w.GetName() == "T2w" and panel.ui.applyButton.enabled


def test_closing_the_scene_empties_the_panel_and_a_new_image_can_be_run(finished_panel, phantom_study, study_of):
    from ProstateXferSlicer.scene.volumes import volumeOfImage

    study = study_of("prostate", "dil")
    slicer.mrmlScene.Clear()
    panel = finished_panel
    assert panel.ui.resultsTable.rowCount == 0 and panel.ui.resultsLabel.text == "No results yet."
    assert not panel.ui.applyButton.enabled and not panel.ui.exportReportButton.enabled
    panel.choose(t2w=volumeOfImage(phantom_study.t2w, "next"))
    panel.run(study)
    assert panel.parameters.segmentation.GetName() == "next segmentation"


def test_reloading_twice_gives_a_working_panel_and_one_observer_each(
    panel, t2w_volume, study_of, modules_kept, monkeypatch
):
    study = study_of("prostate", "dil")
    panel.choose(t2w=t2w_volume, device="cpu")
    for _ in range(2):
        old = slicer.modules.ProstateXferWidget
        old.onReload()
        assert slicer.modules.ProstateXferWidget is not old and old._parameterNode is None
    reloaded = slicer.modules.ProstateXferWidget
    assert type(reloaded.sections) is not type(old.sections)
    assert reloaded.ui.deviceComboBox.currentText == "cpu" and reloaded.ui.applyButton.enabled
    from ProstateXferSlicer.work import job  # the one that was loaded last

    command = panel.child.command
    monkeypatch.setattr(job, "libraryCommand", command)
    again = Panel(reloaded, panel.child)
    again.run(study)
    assert again.ui.resultsTable.rowCount > 0
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_a_reload_during_a_run_stops_it(panel, t2w_volume, study_of, modules_kept, caplog):
    panel.choose(t2w=t2w_volume)
    panel.startAndWaitForChild(study=study_of("prostate"), grandchild=True)
    with caplog.at_level(logging.ERROR):
        slicer.modules.ProstateXferWidget.onReload()
        until(panel.child.areGone)
        until(lambda: slicer.modules.ProstateXferWidget.ui.applyButton.text == "Run")
    assert not caplog.records
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_without_a_main_window_the_panel_runs_and_measures(no_main_window, panel, t2w_volume, study_of):
    assert slicer.app.layoutManager() is None
    panel.choose(t2w=t2w_volume)
    panel.run(study_of("prostate", "dil"))
    ui = panel.ui
    assert ui.statusLabel.text.startswith("Done")
    ui.resultsTable.cellClicked.emit(0, 0)
    for button in (
        ui.show3DButton,
        ui.showChartButton,
        ui.showInputButton,
        ui.showUncertaintyButton,
        ui.remeasureButton,
    ):
        button.click()
    assert ui.resultsTable.rowCount > 0


def test_the_self_check_shows_device_versions_and_models(panel):
    ui = panel.ui
    ui.advancedSection.collapsed = False
    ui.doctorButton.click()
    assert not ui.doctorButton.enabled and ui.doctorButton.toolTip == "The check is under way"
    until(lambda: ui.doctorButton.enabled, 60)
    text = ui.doctorTextEdit.toPlainText()
    assert not ui.doctorTextEdit.isHidden()
    for word in ("torch", "prostate-dil-small", "Devices", "Python"):
        assert word.lower() in text.lower(), word


def test_the_self_check_shows_what_the_child_says_when_it_fails(panel):
    panel.child.replaces = {"doctor"}
    panel.child.does(errors=["ImportError: no torch"], exit=1)
    panel.ui.doctorButton.click()
    until(lambda: panel.ui.doctorButton.enabled)
    assert "ImportError: no torch" in panel.ui.doctorTextEdit.toPlainText()
