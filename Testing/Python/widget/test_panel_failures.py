# SPDX-License-Identifier: Apache-2.0
"""What goes wrong is told in one sentence, with the log behind it; the scene is as it was and nothing is left over."""

import errno
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import slicer

from ProstateXferLib.cohort.result import StudyResult
from study_child.fixtures import sceneState

SHIPPED = Path(__file__).resolve().parents[3] / "Resources" / "Models"


@pytest.fixture
def ready(panel, t2w_volume):
    """The panel with an image; `fails` runs, expects one error box and an untouched scene, and gives the box."""
    panel.choose(t2w=t2w_volume)
    return panel


@pytest.fixture
def fails(ready, dialogs):
    """fails(**plan): run into one error box that leaves the scene as it was; the box."""

    def run(**plan):
        before = sceneState()
        ready.run(**plan)
        assert sceneState() == before
        assert ready.ui.applyButton.text == "Run" and ready.ui.applyButton.enabled
        assert ready.ui.progressBar.isHidden()
        (message,) = dialogs.messages
        assert message.kind == "error" and "Traceback" not in message.text and "\n" not in message.text
        return message

    return run


def test_the_childs_sentence_is_shown_with_the_last_lines_of_the_log(ready, fails):
    lines = [f"line {number}" for number in range(30)]
    error = {"event": "error", "message": "The lesion model does not fit: choose another one.", "exit_code": 1}
    message = fails(lines=[*lines, error], exit=1)
    assert message.text == error["message"]
    assert message.options["detailedText"].splitlines() == lines[-20:]
    assert ready.ui.statusLabel.text == f"Failed: {error['message']}"


def test_a_crash_is_told_as_one(fails):
    message = fails(errors=["Fatal Python error: Segmentation fault"], signal=int(signal.SIGSEGV))
    assert "crashed (signal 11" in message.text and "Segmentation fault" in message.options["detailedText"]


def test_an_end_by_the_system_speaks_of_memory(fails):
    assert "memory" in fails(signal=int(signal.SIGKILL)).text


def test_an_end_without_a_result_is_a_failure(fails):
    assert "without a result" in fails(lines=["hello"]).text


def test_a_disk_that_is_full_for_the_child_is_told_as_it_told_it(fails):
    text = "'/tmp/x/study' could not be written (No space left on device): check free space and permissions."
    assert fails(lines=[{"event": "error", "message": text, "exit_code": 1}], exit=1).text == text


@pytest.mark.parametrize("where", ["tempfile.mkdtemp", "pathlib.Path.replace"])
def test_a_disk_that_is_full_for_the_images_is_told(ready, fails, monkeypatch, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(where, full)
    message = fails()
    assert "No space left on device" in message.text and "free space" in message.text
    assert ready.ui.statusLabel.text == "Not started."


@pytest.mark.parametrize("file", ["segmentation.seg.nrrd", "uncertainty.nii.gz"])
def test_a_damaged_output_leaves_no_node(fails, study_of, file):
    study = study_of("prostate", "dil")
    content = (study / file).read_bytes()
    (study / file).write_bytes(content[: len(content) // 2])
    fails(study=study)


@pytest.mark.parametrize("file", ["segmentation.seg.nrrd", "uncertainty.nii.gz"])
def test_a_missing_output_leaves_no_node(fails, study_of, file):
    study = study_of("prostate", "dil")
    (study / file).unlink()
    fails(study=study)


def test_results_that_cannot_be_kept_do_not_stay_in_the_scene(fails, study_of, monkeypatch):
    study = study_of("prostate", "dil")

    def broken(_):
        raise ValueError("no JSON")

    monkeypatch.setattr(StudyResult, "to_json", broken)
    assert "no JSON" in fails(study=study).text


def test_no_python_to_compute_in_is_told(ready, fails, monkeypatch):
    from ProstateXferLib.errors import ProstateXferError
    from ProstateXferSlicer.work import job

    def none(*_):
        raise ProstateXferError("No Python was found to compute in.")

    monkeypatch.setattr(job, "libraryCommand", none)
    assert fails().text == "No Python was found to compute in."


def test_a_program_that_is_gone_is_told(fails, monkeypatch):
    from ProstateXferSlicer.work import job

    monkeypatch.setattr(job, "libraryCommand", lambda *_: ["/no/such/python", "-m"])
    assert "/no/such/python" in fails().text


def test_missing_packages_are_asked_for_once_and_no_means_nothing_happens(ready, dialogs, monkeypatch):
    from ProstateXferSlicer.panel import installer

    monkeypatch.setattr(slicer.app.commandOptions(), "testingEnabled", False)
    monkeypatch.setattr(installer, "_isImportable", lambda module: module != "safetensors")
    dialogs.confirm, before = False, sceneState()
    ready.start()
    assert len(dialogs.texts("confirm")) == 1 and "safetensors" in dialogs.texts("confirm")[0]
    assert len(dialogs.texts("error")) <= 1
    assert not ready.isRunning() and not ready.child.calls and not dialogs.installed
    assert ready.ui.statusLabel.text == "Not started." and sceneState() == before


def test_a_second_click_while_a_question_is_open_starts_no_second_run(ready, study_of, monkeypatch):
    from ProstateXferSlicer.panel import sections

    monkeypatch.setattr(sections, "ensurePackages", lambda _purpose: ready.ui.applyButton.click())
    ready.run(study_of("prostate"))
    assert len(ready.child.calls) == 1


def test_an_image_without_voxels_is_refused(ready, fails):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "leer")
    ready.choose(t2w=empty)
    assert "leer" in fails().text and not ready.child.calls


def test_an_image_under_a_warp_is_refused(ready, fails, t2w_volume):
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    import vtk

    grid = vtk.vtkThinPlateSplineTransform()
    grid.SetSourceLandmarks(points := vtk.vtkPoints())
    grid.SetTargetLandmarks(points)
    warp.SetAndObserveTransformToParent(grid)
    t2w_volume.SetAndObserveTransformNodeID(warp.GetID())
    message = fails()
    assert "transform" in message.text and not ready.child.calls


def test_results_of_an_image_under_a_linear_transform_lie_where_the_image_is_seen(ready, t2w_volume, study_of):
    import vtk

    from ProstateXferLib.images.io import read_image

    move = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "move")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 30.0)  # mm to the right
    move.SetMatrixTransformToParent(matrix)
    plain = np.array(t2w_volume.GetOrigin())
    t2w_volume.SetAndObserveTransformNodeID(move.GetID())
    ready.startAndWaitForChild(study=study_of("prostate", "dil"))
    word = next(word for word in ready.child.calls[0]["words"] if word.startswith("--t2w="))
    given = read_image(word.split("=", 1)[1])
    assert np.allclose(np.array(given.GetOrigin()) * (-1, -1, 1), plain + np.array((30, 0, 0)))
    ready.ui.applyButton.click()


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_model_file_that_went_bad_is_told_before_anything_is_started(ready, dialogs, tmp_path, damage):
    path = Path(shutil.copy(SHIPPED / "prostate-dil-small.safetensors", tmp_path / "ours.safetensors"))
    ready.choose(prostateModel=str(path))
    assert ready.ui.applyButton.enabled
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    ready.ui.applyButton.click()
    assert len(dialogs.texts("error")) == 1 and "ours" in dialogs.texts("error")[0]
    assert not ready.isRunning() and not ready.child.calls


def test_a_study_of_another_format_is_refused(fails, study_of):
    study = study_of("prostate", "dil")
    values = json.loads((study / "study.json").read_text(encoding="utf-8"))
    (study / "study.json").write_text(json.dumps({**values, "format": "ProstateXfer study 99"}))
    assert "format" in fails(study=study).text
