# SPDX-License-Identifier: Apache-2.0
"""The logic as scripts use it: every option reaches the command line, it waits or not, and an error is one sentence."""

import pytest
import slicer

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferSlicer.scene.parameters import measurementsOf
from ProstateXferSlicer.scene.tables import readTable
from ProstateXferSlicer.study_run import StudyWatcher
from study_child.fixtures import sceneState, until


@pytest.fixture
def logic(child):
    """The logic of the module, as a script gets it, without a panel."""
    import ProstateXfer

    return ProstateXfer.ProstateXferLogic()


class Listener(StudyWatcher):
    """Writes down what a run tells."""

    def __init__(self):
        self.steps, self.warnings, self.lines, self.ends = [], [], [], []

    def onProgress(self, step, fraction, message):
        self.steps.append((step, fraction, message))

    def onWarning(self, message):
        self.warnings.append(message)

    def onLog(self, line):
        self.lines.append(line)

    def onFinished(self, outcome):
        self.ends.append(outcome)


@pytest.fixture
def study(study_of):
    """Prostate and DIL."""
    return study_of("prostate", "dil")


def test_a_run_that_waits_gives_its_nodes(logic, child, study, t2w_volume):
    child.does(study=study)
    nodes = logic.process(t2w_volume)
    assert [row.id for row in readTable(nodes.measurements)] == [row.id for row in StudyResult.read(study).measurements]
    assert nodes.uncertaintyMap is not None and nodes.syntheticCtFromMr is None
    assert logic.getParameterNode().segmentation is nodes.segmentation


def test_a_run_that_does_not_wait_comes_back_at_once_and_tells_its_watcher(logic, child, study, t2w_volume):
    watcher = Listener()
    lines = [{"event": "progress", "step": "Reading", "fraction": 0.5, "message": "x"}, "hello"]
    child.does(study=study, hold=True, lines=[*lines, {"event": "warning", "message": "Beware."}])
    run = logic.process(t2w_volume, waitForCompletion=False, watcher=watcher)
    assert run.outcome is None
    until(lambda: watcher.warnings)
    child.goOn()
    until(lambda: watcher.ends)
    assert watcher.steps == [("Reading", 0.5, "x")] and watcher.lines == ["hello"] and watcher.warnings == ["Beware."]
    assert [end.job.state for end in watcher.ends] == ["done"] and run.outcome is watcher.ends[0]
    assert slicer.mrmlScene.IsNodePresent(run.outcome.nodes.segmentation)


def test_every_option_reaches_the_command_line(logic, child, study_of, tmp_path, t2w_volume, cbct_volume, ct_volume):
    import shutil
    from pathlib import Path

    import ProstateXferLib

    shipped = Path(ProstateXferLib.__file__).parents[1] / "Resources" / "Models"
    for name in ("prostate-dil-small", "dgcf-mr-to-ct-small", "dgcf-cbct-to-ct-small"):
        shutil.copy(shipped / f"{name}.safetensors", tmp_path / f"our-{name}.safetensors")
    child.does(study=study_of("ct-from-cbct"))
    logic.process(
        t2w_volume,
        adc=ct_volume,
        highB=ct_volume,
        cbct=cbct_volume,
        referenceCt=ct_volume,
        tasks=["dil", "ct-from-cbct", "prostate", "ct-from-mr"],
        prostateModel="our-prostate-dil-small",
        dilModel=tmp_path / "our-prostate-dil-small.safetensors",
        ctFromMrModel="our-dgcf-mr-to-ct-small",
        ctFromCbctModel="our-dgcf-cbct-to-ct-small",
        modelsFolder=str(tmp_path),
        device="cuda:1",
        precision="bf16",
        testTimeAugmentation=True,
        decodeEverything=True,
        uncertainty=False,
        threads=3,
    )
    words = child.calls[0]["words"]
    tasks = words.index("--tasks")
    assert words[tasks + 1 : tasks + 5] == ["prostate", "dil", "ct-from-mr", "ct-from-cbct"]
    expected = {
        "--prostate-model=our-prostate-dil-small",
        f"--dil-model={tmp_path / 'our-prostate-dil-small.safetensors'}",
        "--ct-from-mr-model=our-dgcf-mr-to-ct-small",
        "--ct-from-cbct-model=our-dgcf-cbct-to-ct-small",
        f"--models-folder={tmp_path}",
        "--device=cuda:1",
        "--precision=bf16",
        "--threads=3",
        "--tta",
        "--decode-everything",
        "--no-uncertainty",
    }
    assert expected < set(words)
    files = [word.split("=")[0] for word in words if word.endswith(".nrrd")]
    assert files == ["--t2w", "--adc", "--high-b", "--cbct", "--reference-ct"]


def test_a_reference_segmentation_is_handed_over(logic, child, study, t2w_volume, tmp_path):
    child.does(study=study)
    first = logic.process(t2w_volume)
    child.does(study=study)
    logic.process(t2w_volume, referenceSegmentation=first.segmentation)
    word = next(word for word in child.calls[0]["words"] if word.startswith("--reference-segmentation="))
    assert word.endswith(".seg.nrrd")


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"tasks": ["prostat"]}, "The task 'prostat' is not known"),
        ({"tasks": []}, "Choose at least one task"),
        ({"tasks": ["ct-from-cbct"]}, "Choose a CBCT for CT from CBCT."),
        ({"device": "abacus"}, "The device 'abacus' is not known"),
        ({"dilModel": "no such model"}, "no such model"),
        ({"threads": 0}, "0 CPU threads cannot be used"),
        ({"modelsFolder": "/no/such/folder"}, "does not exist"),
    ],
)
def test_what_cannot_run_is_told_in_one_sentence_and_starts_nothing(logic, child, t2w_volume, choices, sentence):
    before = sceneState()
    with pytest.raises(ProstateXferError, match=sentence) as raised:
        logic.process(t2w_volume, updateParameterNode=False, **choices)
    assert "\n" not in str(raised.value)
    assert not child.calls and sceneState() == before


def test_a_run_that_fails_raises_the_childs_sentence(logic, child, t2w_volume):
    logic.getParameterNode()
    before = sceneState()
    child.does(lines=[{"event": "error", "message": "The image is constant: choose another.", "exit_code": 1}], exit=1)
    with pytest.raises(ProstateXferError, match="The image is constant: choose another."):
        logic.process(t2w_volume)
    assert sceneState() == before


def test_a_cancelled_run_raises_cancelled_and_leaves_the_scene(logic, child, study, t2w_volume):
    logic.getParameterNode()
    before = sceneState()
    child.does(study=study, hold=True, grandchild=True)
    run = logic.process(t2w_volume, waitForCompletion=False)
    until(lambda: child.calls)
    run.cancel()
    with pytest.raises(CancelledError):
        logic.waited(run)
    assert child.areGone() and sceneState() == before


def test_the_parameter_node_is_left_alone_on_request(logic, child, study, t2w_volume):
    parameters = logic.getParameterNode()
    child.does(study=study)
    nodes = logic.process(t2w_volume, updateParameterNode=False)
    assert nodes.segmentation is not None and parameters.segmentation is None


def test_a_scene_closed_during_a_scripts_run_gets_nothing(logic, child, study, t2w_volume):
    watcher = Listener()
    child.does(study=study, hold=True)
    logic.process(t2w_volume, waitForCompletion=False, watcher=watcher)
    until(lambda: child.calls)
    slicer.mrmlScene.Clear()
    child.goOn()
    until(lambda: watcher.ends)
    assert watcher.ends[0].job.state == "failed" and watcher.ends[0].nodes is None
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert logic.getParameterNode().studyRecord == ""


def test_measuring_again_and_exporting_work_for_scripts(logic, child, study, t2w_volume, tmp_path, whole_study):
    child.does(study=study)
    nodes = logic.process(t2w_volume)
    assert logic.exportCsv(tmp_path / "a.csv").read_bytes() == (whole_study / "measurements.csv").read_bytes()
    nodes.segmentation.GetSegmentation().RemoveSegment("DIL")
    rows = logic.remeasure()
    assert [row.id for row in rows] == ["Prostate"]
    assert measurementsOf(logic.getParameterNode()) == rows and logic.getParameterNode().edited


def test_a_report_of_a_scripts_run_needs_no_choice_in_the_panel(logic, child, study_of, cbct_volume, tmp_path):
    child.does(study=study_of("ct-from-cbct"))
    logic.process(cbct=cbct_volume, tasks=["ct-from-cbct"])
    child.replaces = {"report"}
    child.does(lines=[{"event": "result", "page": str(tmp_path / "a.html")}])
    assert logic.exportReport(tmp_path / "a.html") == tmp_path / "a.html"
    assert child.calls[0]["words"][0] == "report"


@pytest.mark.parametrize("export", ["exportCsv", "exportReport", "remeasure"])
def test_without_a_run_there_is_nothing_to_export_or_measure(logic, tmp_path, export):
    with pytest.raises(ProstateXferError, match="run"):
        getattr(logic, export)(*([tmp_path / "x"] if export != "remeasure" else []))
    assert not list(tmp_path.glob("x*"))


def test_without_a_main_window_scripts_run(no_main_window, logic, child, study, t2w_volume):
    child.does(study=study)
    assert logic.process(t2w_volume).measurements is not None
