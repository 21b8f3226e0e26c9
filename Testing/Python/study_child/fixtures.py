# SPDX-License-Identifier: Apache-2.0
"""Fixtures for runs without networks: a prepared study, a child that hands it over or misbehaves, and the panel."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

TIMEOUT_S = 20.0
_SCRIPT = Path(__file__).with_name("child.py")
_SEGMENTATION = ("segmentation", "uncertainty", "measurements")


def until(condition: Callable[[], object], timeoutS: float = TIMEOUT_S) -> None:
    """Let the application work until something has happened."""
    import slicer

    deadline = time.monotonic() + timeoutS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        slicer.app.processEvents()
        time.sleep(0.005)


@pytest.fixture(scope="session")
def whole_study(phantom_study, tmp_path_factory) -> Path:
    """The folder of a study on the coarse phantom with all tasks, a reference CT and the shipped small models."""
    if not _made:
        _made.append(_makeStudy(phantom_study, tmp_path_factory.mktemp("whole-study")))
    return _made[0]


_made: list[Path] = []  # the rooms have a fixture each, and need one study


def _makeStudy(phantom, folder: Path) -> Path:
    from ProstateXferLib.cohort.inputs import StudyInputs
    from ProstateXferLib.cohort.options import StudyOptions
    from ProstateXferLib.cohort.study import run_study
    from ProstateXferLib.cohort.task import Task
    from ProstateXferLib.images.io import write_image

    images = {"t2w": phantom.t2w, "cbct": phantom.cbct, "reference_ct": phantom.ct}
    inputs = StudyInputs(**{name: write_image(image, folder / f"{name}.nrrd") for name, image in images.items()})
    run_study(inputs, StudyOptions(tasks=tuple(Task), device="cpu", precision="fp32", threads=1), folder / "study")
    return folder / "study"


@pytest.fixture
def study_of(whole_study, tmp_path) -> Callable[..., Path]:
    """study_of("prostate", "dil", ...): a folder with what these tasks alone would have made, without a reference."""

    def make(*tasks: str) -> Path:
        from ProstateXferLib.cohort.result import StudyResult

        whole = StudyResult.read(whole_study)
        keys = [*tasks, *(_SEGMENTATION if {"prostate", "dil"} & set(tasks) else ())]
        used = {"t2w": {*tasks} - {"ct-from-cbct"}, "cbct": "ct-from-cbct" in tasks}
        inputs = {name: path for name, path in whole.inputs.given().items() if used.get(name)}
        folder = tmp_path / "-".join(["study", *tasks])
        shutil.copytree(whole_study, folder)
        replace(
            whole,
            folder=folder,
            options=replace(whole.options, tasks=tasks),
            inputs=replace(whole.inputs, **{name: inputs.get(name) for name in ("t2w", "cbct", "reference_ct")}),
            outputs={key: name for key, name in whole.outputs.items() if key in keys},
            measurements=whole.measurements if "segmentation" in keys else (),
            synthesis={},
            provenance={key: record for key, record in whole.provenance.items() if key in keys},
        ).write()
        return folder

    return make


class Child:
    """What the child of the next run does, and what became of it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.replaces = {"study"}  # commands; the others are the library's own
        self.command: Callable[..., list[str]] | None = None  # stands in for work.job.libraryCommand
        self.does()

    def does(self, **plan) -> None:
        """Keys: lines, errors, grandchild, hold (until `goOn`), study (a folder), signal, exit; see child.py."""
        plan = {key: str(value) if isinstance(value, Path) else value for key, value in plan.items()}
        (self.folder / "go").unlink(missing_ok=True)
        (self.folder / "calls").unlink(missing_ok=True)
        (self.folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")

    def goOn(self) -> None:
        """End the child's waiting."""
        (self.folder / "go").touch()

    @property
    def calls(self) -> list[dict]:
        """ "pids" (the grandchild's is the second) and "words" of each child since `does`."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def areGone(self) -> bool:
        """Whether none of the processes is left."""
        from ProstateXferSlicer.work.process_table import processRow

        rows = [processRow(pid) for call in self.calls for pid in call["pids"]]
        return all(row is None or row.isZombie for row in rows)


@pytest.fixture
def temporary_folder(scene, tmp_path, monkeypatch) -> Iterator[Path]:
    """Slicer's temporary folder, with a name that is not easy; the test must leave nothing in it."""
    import slicer

    folder = tmp_path / "Zwischenablage für Öl"
    folder.mkdir()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(folder))
    yield folder
    until(lambda: not list(folder.iterdir()), 3.0)  # a run that was cancelled with its panel ends a moment later


@pytest.fixture
def child(temporary_folder, tmp_path, monkeypatch) -> Iterator[Child]:
    """A `Child` in the place of the real one; the test must end with it gone."""
    import qt

    from ProstateXferSlicer.work import job, python

    folder = tmp_path / "child"
    folder.mkdir()
    child = Child(folder)

    def command(*words: str) -> list[str]:
        if words[0] not in child.replaces:
            return python.libraryCommand(*words)
        return [sys.executable, "-S", "-E", str(_SCRIPT), str(folder), *words]

    child.command = command
    monkeypatch.setattr(job, "libraryCommand", command)
    monkeypatch.setenv("PROSTATEXFER_PYTHON", sys.executable)
    yield child
    child.goOn()
    until(child.areGone)
    # What was deleted "later" goes when control is back in the event loop, and there is none here: the panels of all
    # tests would follow the scene together.
    qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)


class Panel:
    """The panel in a user's hands."""

    def __init__(self, widget, child: Child):
        self.widget, self.ui, self.child = widget, widget.ui, child

    @property
    def parameters(self):
        """The typed parameter node that the panel shows."""
        return self.widget._parameterNode

    def isRunning(self) -> bool:
        """As the user sees it."""
        return self.ui.applyButton.text == "Cancel"

    def start(self, **plan) -> None:
        """Press "Run"; the child does as `plan` says."""
        self.child.does(**plan)
        assert self.ui.applyButton.enabled, self.ui.applyButton.toolTip
        self.ui.applyButton.click()

    def startAndWaitForChild(self, **plan) -> None:
        """As `start`, with a child that holds on; it runs when this returns."""
        self.start(hold=True, **plan)
        until(lambda: self.child.calls)
        assert self.isRunning()

    def run(self, study: Path | None = None, **plan) -> None:
        """Press "Run", and wait for the end."""
        self.start(**({"study": study} if study else {}), **plan)
        until(lambda: not self.isRunning())

    def choose(self, **choices) -> None:
        """Set parameters by name, as a script does."""
        for name, value in choices.items():
            setattr(self.parameters, name, value)

    def cell(self, row: int, column: int) -> str:
        """A text of the table of results."""
        return self.ui.resultsTable.item(row, column).text()


@pytest.fixture
def panel(child, module_widget) -> Panel:
    """The panel of an empty scene."""
    return Panel(module_widget, child)


@pytest.fixture
def finished_panel(panel, t2w_volume, cbct_volume, ct_volume, whole_study) -> Panel:
    """The panel after a run with all tasks and a reference CT."""
    panel.choose(t2w=t2w_volume, cbct=cbct_volume, referenceCt=ct_volume, ctFromMr=True, ctFromCbct=True)
    panel.run(whole_study)
    return panel


def sceneState() -> dict:
    """What a run that ends without results must not have changed: nodes, parameters, references, attributes."""
    import slicer

    state = {}
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        node = slicer.mrmlScene.GetNthNode(index)
        state[node.GetID()] = (node.GetName(), node.GetClassName())
        if node.IsA("vtkMRMLScriptedModuleNode"):
            names, roles = node.GetParameterNames(), []
            node.GetNodeReferenceRoles(roles)
            state[node.GetID()] += tuple((name, node.GetParameter(name)) for name in sorted(names))
            state[node.GetID()] += tuple((role, node.GetNodeReferenceID(role)) for role in sorted(roles))
    return state
