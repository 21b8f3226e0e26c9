# SPDX-License-Identifier: Apache-2.0
"""Stopping: by the button, and by everything else that takes away what a run works for; nothing of it is left."""

import time

import pytest
import slicer

from study_child.fixtures import sceneState, until

STOPPED = "Cancelled: the scene is as it was."


@pytest.fixture
def running(panel, t2w_volume, study_of):
    """The panel while its child, which has a deaf child of its own, would soon have a result."""
    panel.choose(t2w=t2w_volume)
    panel.before = sceneState()
    panel.startAndWaitForChild(study=study_of("prostate", "dil"), grandchild=True)
    return panel


def test_cancel_ends_within_a_second_or_so_and_leaves_nothing(running, temporary_folder):
    assert list(temporary_folder.glob("ProstateXfer*"))
    clicked = time.monotonic()
    running.ui.applyButton.click()
    assert running.ui.statusLabel.text == "Cancelling…"
    until(lambda: not running.isRunning())
    assert time.monotonic() - clicked < 1.5
    assert running.ui.statusLabel.text == STOPPED and running.ui.progressBar.isHidden()
    assert running.ui.applyButton.enabled
    assert running.child.areGone()
    assert sceneState() == running.before
    assert not list(temporary_folder.glob("ProstateXfer*"))


def test_the_button_is_grey_and_says_so_while_the_run_is_being_cancelled(running):
    running.ui.applyButton.click()
    assert not running.ui.applyButton.enabled
    assert running.ui.applyButton.toolTip == "The run is being cancelled"
    running.ui.applyButton.click()
    until(lambda: not running.isRunning())


def test_a_result_that_comes_after_cancel_does_not_count(running):
    running.ui.applyButton.click()
    running.child.goOn()
    until(lambda: not running.isRunning())
    assert sceneState() == running.before


def test_no_error_is_shown_after_cancel_and_the_next_run_works(running, study_of, dialogs):
    running.ui.applyButton.click()
    until(lambda: not running.isRunning())
    assert not dialogs.messages
    running.run(study_of("prostate"))
    assert running.ui.statusLabel.text.startswith("Done")


def test_results_of_before_stay_when_a_later_run_is_cancelled(panel, t2w_volume, study_of):
    study = study_of("prostate", "dil")
    panel.choose(t2w=t2w_volume)
    panel.run(study)
    before, volume = sceneState(), panel.cell(0, 1)
    panel.startAndWaitForChild(study=study)
    panel.ui.applyButton.click()
    until(lambda: not panel.isRunning())
    assert sceneState() == before and panel.cell(0, 1) == volume


def test_closing_the_scene_stops_the_run_and_nothing_of_it_reaches_the_next_scene(running, dialogs):
    slicer.mrmlScene.Clear()
    running.child.goOn()
    until(lambda: not running.isRunning())
    until(running.child.areGone)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert running.parameters.segmentation is None and running.parameters.t2w is None
    assert not running.ui.applyButton.enabled
    assert not dialogs.messages


def test_a_run_goes_on_while_another_module_is_shown(running):
    slicer.util.selectModule("Volumes")
    running.child.goOn()
    until(lambda: not running.isRunning())
    assert running.parameters.segmentation is not None
    slicer.util.selectModule("ProstateXfer")
    assert running.ui.resultsTable.rowCount > 0


def test_an_input_removed_during_the_run_is_told_and_nothing_is_added(running, t2w_volume, dialogs):
    slicer.mrmlScene.RemoveNode(t2w_volume)
    before = sceneState()
    running.child.goOn()
    until(lambda: not running.isRunning())
    assert sceneState() == before
    assert dialogs.texts("error") == ["The T2w image was removed from the scene during the run: load it and run again."]


def test_another_choice_during_the_run_changes_neither_the_run_nor_the_choice(running, t2w_volume, cbct_volume):
    running.choose(t2w=cbct_volume)
    running.child.goOn()
    until(lambda: not running.isRunning())
    assert running.parameters.t2w is cbct_volume
    assert running.parameters.measuredImage is t2w_volume
    assert running.parameters.segmentation.GetName() == "T2w segmentation"


def test_the_panels_end_is_the_runs_end(running, caplog):
    running.widget.cleanup()
    until(running.child.areGone)
    until(lambda: not [row for row in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")])
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


def test_unloading_the_module_during_a_run_leaves_no_process_and_logs_no_fault(running, slicer_host, caplog):
    import qt

    slicer_host.moduleManager().unload("ProstateXfer")
    qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
    until(running.child.areGone)
    slicer_host.processEvents()
    time.sleep(0.3)
    slicer_host.processEvents()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text
