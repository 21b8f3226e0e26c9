# SPDX-License-Identifier: Apache-2.0
"""Parameters on a parameter node behave alike with the host's stand-in and with Slicer's own sources.

PROSTATEXFER_SLICER_SOURCE chooses; these tests have to pass with 5.8.1, 5.10, 5.12 and without.
"""

import enum
import gc
import pathlib
import weakref
from types import SimpleNamespace
from typing import Annotated, Optional, Union

import ctk
import pytest
import qt
import slicer
import vtk
from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange, parameterNodeWrapper, parameterPack
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic


class Device(enum.Enum):
    AUTO = "auto"
    CPU = "cpu"


@parameterPack
class Size:
    width: Annotated[int, Minimum(1)] = 1
    height: int = 2


@parameterNodeWrapper
class Parameters:
    t2w: slicer.vtkMRMLScalarVolumeNode
    either: Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode, None]  # noqa: UP007
    level: Annotated[int, WithinRange(0, 5)] = 3
    share: Annotated[float, WithinRange(0, 1), Default(0.25)]
    model: Annotated[str, Choice(["small", "large"])] = "small"
    device: Device = Device.CPU
    folder: pathlib.Path
    names: list[str]
    note: str = "nothing"
    maybe: Optional[str]  # noqa: UP045
    tta: bool = True
    size: Size

    def summary(self) -> str:
        return f"{self.model} {self.level}"


class ThingLogic(ScriptedLoadableModuleLogic):
    pass


@pytest.fixture
def node(scene):
    return ThingLogic().getParameterNode()


@pytest.fixture
def parameters(node):
    return Parameters(node)


def test_a_module_has_one_parameter_node_in_a_scene(node, scene):
    assert ThingLogic().getParameterNode() is node
    assert (node.GetSingletonTag(), node.GetAttribute("ModuleName")) == ("Thing", "Thing")
    scene.Clear(False)
    assert ThingLogic().getParameterNode().GetAttribute("ModuleName") == "Thing"


def test_values_begin_with_their_defaults(parameters):
    assert (parameters.t2w, parameters.level, parameters.share, parameters.model) == (None, 3, 0.25, "small")
    assert (parameters.device, parameters.folder, parameters.tta) == (Device.CPU, pathlib.Path(), True)
    assert (list(parameters.names), parameters.note, parameters.maybe) == ([], "nothing", None)
    assert (parameters.size.width, parameters.size.height) == (1, 2)


def test_values_are_in_the_node_and_another_wrapper_sees_them(parameters, node, scene):
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2w")
    parameters.t2w, parameters.level, parameters.device = volume, 5, Device.AUTO
    parameters.names.append("DIL")
    parameters.maybe = "yes"
    parameters.size.height = 9
    other = Parameters(node)
    assert (other.t2w, other.level, other.device, other.maybe) == (volume, 5, Device.AUTO, "yes")
    assert (list(other.names), other.size.height) == (["DIL"], 9)
    assert node.GetNodeReferenceID("t2w") == volume.GetID()
    assert (node.GetParameter("level"), node.GetParameter("device")) == ("5", "AUTO")


def test_a_deleted_node_is_none(parameters, scene):
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2w")
    parameters.t2w = volume
    scene.RemoveNode(volume)
    assert parameters.t2w is None


def test_a_union_takes_what_it_names(parameters, scene):
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    parameters.either = segmentation
    assert parameters.either is segmentation
    parameters.either = None
    assert parameters.either is None
    with pytest.raises((TypeError, ValueError)):
        parameters.either = scene.AddNewNodeByClass("vtkMRMLTableNode", "T")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("level", 6, ValueError),
        ("level", None, ValueError),
        ("level", "3", TypeError),
        ("share", 1.5, ValueError),
        ("model", "huge", ValueError),
        ("device", "cpu", TypeError),
        ("folder", "/models", TypeError),
        ("tta", 1, TypeError),
        ("note", None, ValueError),
    ],
)
def test_a_bad_value_raises_and_changes_nothing(parameters, name, value, error):
    before = getattr(parameters, name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_a_node_of_the_wrong_class_raises(parameters, scene):
    with pytest.raises(TypeError):
        parameters.t2w = scene.AddNewNodeByClass("vtkMRMLTableNode", "T")


def test_a_misspelled_name_is_taken_without_a_word(parameters, node):
    parameters.lvel = 5
    assert parameters.level == 3 and not node.HasParameter("lvel")


def test_names_are_checked_where_they_are_strings(parameters):
    parameters.setValue("size.height", 4)
    assert parameters.getValue("size.height") == 4
    assert parameters.isCached("level") and parameters.default("level").value == 3
    for call in (parameters.getValue, parameters.isCached, parameters.dataType):
        with pytest.raises(ValueError, match="lvel"):
            call("lvel")


def test_the_class_keeps_its_own_methods(parameters):
    assert parameters.summary() == "small 3"


def test_a_reserved_name_is_refused():
    with pytest.raises(ValueError, match="reserved"):

        @parameterNodeWrapper
        class Wrong:
            isCached: int


def test_observers_run_once_and_find_the_new_value(parameters):
    seen = []
    tag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: seen.append(parameters.level))
    parameters.level = 4
    parameters.level = 4
    with slicer.util.NodeModify(parameters):
        parameters.level, parameters.note = 1, "two changes"
    parameters.RemoveObserver(tag)
    parameters.level = 2
    assert seen == [4, 1]


def test_a_change_from_outside_is_seen(parameters, node):
    node.SetParameter("level", "1")
    assert parameters.level == 1


def test_a_wrapper_that_is_dropped_goes_away(node):
    weak = weakref.ref(Parameters(node))
    gc.collect()
    assert weak() is None
    node.SetParameter("level", "1")


@pytest.fixture
def ui(scene):
    """Widgets for some parameters, as childWidgetVariables gives them."""
    classes = {
        "t2w": slicer.qMRMLNodeComboBox,
        "level": qt.QSpinBox,
        "share": ctk.ctkSliderWidget,
        "model": qt.QComboBox,
        "device": qt.QComboBox,
        "folder": ctk.ctkPathLineEdit,
        "note": qt.QLineEdit,
        "tta": qt.QCheckBox,
    }
    widgets = SimpleNamespace(**{name: cls() for name, cls in classes.items()})
    for name, widget in vars(widgets).items():
        widget.setProperty("SlicerParameterName", name)
    widgets.t2w.noneEnabled = True
    widgets.t2w.setMRMLScene(scene)
    return widgets


def test_widgets_show_the_values_and_take_limits_and_choices(parameters, ui):
    parameters.connectGui(ui)
    assert (ui.level.value, ui.level.minimum, ui.level.maximum) == (3, 0, 5)
    assert (ui.share.value, ui.share.maximum) == (0.25, 1)
    assert (ui.model.count, ui.model.currentText, ui.device.currentText) == (2, "small", "CPU")
    assert (ui.folder.currentPath, ui.note.text, ui.tta.checked) == (".", "nothing", True)
    assert ui.t2w.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_a_change_of_a_value_reaches_its_widget(parameters, ui, scene):
    parameters.connectGui(ui)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2w")
    parameters.t2w, parameters.level, parameters.model = volume, 1, "large"
    parameters.folder, parameters.device = pathlib.Path("/models"), Device.AUTO
    assert (ui.t2w.currentNode(), ui.level.value, ui.model.currentText) == (volume, 1, "large")
    assert (ui.folder.currentPath, ui.device.currentText) == ("/models", "AUTO")


def test_what_the_user_does_reaches_the_value(parameters, ui, scene):
    parameters.connectGui(ui)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2w")
    ui.t2w.setCurrentNode(volume)
    ui.level.value, ui.share.value, ui.model.currentIndex, ui.device.currentIndex = 0, 0.75, 1, 0
    ui.folder.currentPath, ui.note.text, ui.tta.checked = "/models", "typed", False
    assert (parameters.t2w, parameters.level, parameters.share, parameters.model) == (volume, 0, 0.75, "large")
    assert (parameters.device, parameters.folder) == (Device.AUTO, pathlib.Path("/models"))
    assert (parameters.note, parameters.tta) == ("typed", False)


def test_a_panel_can_be_connected_as_a_whole(parameters, ui):
    panel = parameters.panel = qt.QWidget()  # kept as long as the connection, as a module does
    layout = qt.QVBoxLayout(panel)
    for widget in vars(ui).values():
        layout.addWidget(widget)
    parameters.connectGui(panel)
    parameters.level = 2
    assert ui.level.value == 2


def test_after_disconnecting_the_user_changes_nothing(parameters, ui):
    tag = parameters.connectGui(ui)
    if tag is None:
        pytest.skip("connectGui of Slicer 5.8 gives no tag, and nothing can be disconnected")
    parameters.disconnectGui(tag)
    ui.level.value = 0
    assert parameters.level == 3


@pytest.mark.parametrize(
    ("name", "widget"),
    [
        ("note", lambda: ctk.ctkPathLineEdit()),  # binds paths only
        ("maybe", lambda: qt.QLineEdit()),  # not an Optional
        ("note", lambda: qt.QComboBox()),  # needs a Choice
        ("level", lambda: qt.QLineEdit()),
    ],
)
def test_a_widget_that_does_not_fit_raises(parameters, name, widget):
    with pytest.raises(RuntimeError):
        parameters.connectParametersToGui({name: widget()})


def test_a_misspelled_parameter_of_a_widget_raises(parameters, ui):
    ui.level.setProperty("SlicerParameterName", "lvel")
    with pytest.raises(ValueError, match="lvel"):
        parameters.connectGui(ui)


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_parameters_survive_a_saved_scene(parameters, scene, tmp_path, ending, t2w_volume):
    parameters.t2w, parameters.level, parameters.device = t2w_volume, 5, Device.AUTO
    parameters.names.append("DIL")
    path = str(tmp_path / f"scene.{ending}")
    assert slicer.util.saveScene(path)
    parameters.level = 0
    scene.Clear(False)
    assert Parameters(ThingLogic().getParameterNode()).level == 3
    slicer.util.loadScene(path)
    loaded = Parameters(ThingLogic().getParameterNode())
    assert (loaded.level, loaded.device, list(loaded.names)) == (5, Device.AUTO, ["DIL"])
    assert (loaded.t2w.GetName(), loaded.t2w.GetClassName()) == ("T2w", "vtkMRMLScalarVolumeNode")
