# SPDX-License-Identifier: Apache-2.0
"""The host's application: what a module finds in `slicer`, how it is loaded and unloaded, and what is written down."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer

_MODULE = """
import qt, slicer, vtk
from slicer.ScriptedLoadableModule import *
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin
events = []

class Thing(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("A thing")
        slicer.app.connect("startupCompleted()", lambda: events.append("started"))

class ThingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = ThingLogic()
        self.button = qt.QPushButton("Run")
        self.layout.addWidget(self.button)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onClose)
    def onClose(self, caller, event): events.append("closed")
    def enter(self): events.append("enter")
    def exit(self): events.append("exit")
    def cleanup(self):
        events.append("cleanup")
        self.removeObservers()

class ThingLogic(ScriptedLoadableModuleLogic):
    pass

class ThingTest(ScriptedLoadableModuleTest):
    def test_one(self): events.append("test")
"""


@pytest.fixture
def thing(slicer_host, scene, tmp_path):
    """A scripted module, loaded."""
    (tmp_path / "Thing.py").write_text(_MODULE)
    slicer_host.moduleManager().loadScripted(tmp_path / "Thing.py")
    slicer_host.startupCompleted.emit()
    yield sys.modules["Thing"]
    slicer_host.moduleManager().unload("Thing")
    sys.path.remove(str(tmp_path))
    del sys.modules["Thing"]


def test_a_module_is_loaded_entered_and_unloaded_as_in_slicer(thing, slicer_host, scene):
    assert slicer.modules.thing.title == "A thing"
    widget = slicer.util.getModuleWidget("Thing")
    assert widget is slicer.modules.ThingWidget and slicer.util.getModuleLogic("Thing") is widget.logic
    slicer.util.selectModule("Thing")
    assert slicer.util.selectedModule() == "Thing"
    slicer.util.selectModule("Volumes")
    scene.Clear(False)
    slicer_host.moduleManager().unload("Thing")
    scene.Clear(False)
    assert thing.events == ["started", "enter", "exit", "closed", "cleanup"]


def test_resources_lie_beside_the_module(thing):
    widget = slicer.util.getModuleWidget("Thing")
    expected = str(Path(thing.__file__).parent / "Resources" / "UI/Thing.ui")
    assert widget.resourcePath("UI/Thing.ui") == slicer.modules.ThingInstance.resourcePath("UI/Thing.ui") == expected


def test_a_module_can_be_reloaded_and_tested(thing):
    before = slicer.util.getModuleWidget("Thing")
    before.onReload()
    assert slicer.modules.ThingWidget is not before and thing.events[-1] == "cleanup"
    slicer.modules.ThingInstance.runTest()
    assert sys.modules["Thing"].events[-1] == "test"


def test_without_a_main_window_there_are_no_views_and_no_module_selector(no_main_window, slicer_host):
    assert slicer.util.mainWindow() is None and slicer_host.layoutManager() is None
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("Volumes")


def test_messages_and_questions_are_written_down(dialogs):
    slicer.util.errorDisplay("It failed", detailedText="why")
    dialogs.confirm = False
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    slicer.util.pip_install("torch>=2.6")
    slicer.util.exit(3)
    assert (dialogs.texts("error"), dialogs.texts("confirm")) == (["It failed"], ["Sure?"])
    assert (dialogs.installed, dialogs.exitCodes) == (["torch>=2.6"], [3])


def test_an_error_is_shown_and_raised_again(scene):
    with pytest.raises(ValueError, match="wrong"), slicer.util.tryWithErrorDisplay("Failed", waitCursor=True):
        raise ValueError("wrong")


def test_new_nodes_get_an_item_in_the_subject_hierarchy_and_lose_it(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2w")
    item = hierarchy.GetItemByDataNode(node)
    assert item and hierarchy.GetItemName(item) == "T2w"
    scene.RemoveNode(node)
    assert hierarchy.GetNumberOfItems() == 0


def test_files_are_loaded_and_saved_by_storage_nodes(scene, t2w_volume, tmp_path):
    path = tmp_path / "t2w.nrrd"
    assert slicer.util.saveNode(t2w_volume, str(path), {})
    loaded = slicer.util.loadVolume(str(path), {"name": "again"})
    assert loaded.GetName() == "again"
    assert np.array_equal(slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(t2w_volume))
    assert slicer.util.loadLabelVolume(str(path), {}).IsA("vtkMRMLLabelMapVolumeNode")
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadSegmentation(str(tmp_path / "nothing.seg.nrrd"), {})


def test_layers_of_the_slice_views_can_be_set(t2w_volume, slicer_host):
    slicer.util.setSliceViewerLayers(background=t2w_volume, fit=True)
    logic = slicer_host.layoutManager().sliceWidget("Yellow").sliceLogic()
    assert logic.GetBackgroundLayer().GetVolumeNode() is t2w_volume
    slicer.util.resetSliceViews()


def test_the_layout_is_kept_by_its_node(slicer_host, scene):
    slicer_host.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    assert slicer_host.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView


def test_temporary_folders_and_the_startup_environment_are_there(scene):
    assert Path(slicer.util.tempDirectory()).is_dir()
    assert "PATH" in slicer.util.startupEnvironment()


def test_module_and_library_are_taken_from_an_installed_tree(tmp_path):
    (tmp_path / "ProstateXferLib").mkdir()
    (tmp_path / "ProstateXferLib" / "__init__.py").write_text("")
    script = (
        "from slicer_host import paths; paths.useModule(); import ProstateXferLib; "
        "print(ProstateXferLib.__file__, paths.moduleFolder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PROSTATEXFER_MODULE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / "ProstateXferLib" / "__init__.py"), str(tmp_path)]


@pytest.mark.parametrize("missing", ["slicer_core", "PySide6"])
def test_without_the_packages_the_rooms_are_skipped_with_a_reason(missing):
    """In a process of its own, where the package cannot be found."""
    rooms = [Path(__file__).parents[1] / room for room in ("scene", "widget", "views")]
    script = (
        "import importlib.util, sys, pytest; find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more)\n"
        "raise SystemExit(pytest.main([*sys.argv[1:], '-q', '-rs', '-p', 'no:cacheprovider', '-k', 'not run_nothing']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, rooms)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "is not installed" in done.stdout and "error" not in done.stdout.lower()
    assert " passed" not in done.stdout
