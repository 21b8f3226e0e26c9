# SPDX-License-Identifier: Apache-2.0
"""The reading of .ui files and of the code around them finds each fault it is there for."""

import ast

import pytest

from static import ui_lint
from static.panel_code import binding_faults, parameter_fields, ui_name_faults

GOOD = """\
<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Panel</class>
 <widget class="qMRMLWidget" name="Panel">
  <layout class="QVBoxLayout" name="layout">
   <item><widget class="QLabel" name="t2wLabel"><property name="text"><string>T2w:</string></property>
    <property name="buddy"><cstring>t2wSelector</cstring></property></widget></item>
   <item><widget class="qMRMLNodeComboBox" name="t2wSelector">
    <property name="toolTip"><string>The image</string></property>
    <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
    <property name="SlicerParameterName" stdset="0"><string>t2w</string></property></widget></item>
   <item><widget class="QCheckBox" name="dilCheckBox"><property name="text"><string>DIL</string></property>
    <property name="toolTip"><string>Segment it</string></property>
    <property name="SlicerParameterName" stdset="0"><string>dil</string></property></widget></item>
   <item><widget class="ctkSliderWidget" name="slider">
    <property name="toolTip"><string>How sure, 0 to 1</string></property>
    <property name="SlicerParameterName" stdset="0"><string>threshold</string></property></widget></item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header>
   <container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header>
  </customwidget>
  <customwidget><class>ctkSliderWidget</class><extends>QWidget</extends><header>ctkSliderWidget.h</header>
  </customwidget>
 </customwidgets>
 <connections>
  <connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>t2wSelector</receiver>
   <slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
 </connections>
</ui>
"""
PARAMETERS = """\
class Device(enum.Enum):
    CPU = 1
@parameterNodeWrapper
class Parameters:
    t2w: vtkMRMLScalarVolumeNode
    mask: slicer.vtkMRMLSegmentationNode
    dil: bool = True
    threshold: Annotated[float, WithinRange(0, 1)] = 0.5
    limit: Annotated[int, Minimum(0)] = 1
    margin: float = 3
    model: str = "small"
    window: Annotated[str, Choice(["bone", "soft"])] = "bone"
    device: Device
    folder: pathlib.Path
    cache: Path | None
"""
FIELDS = parameter_fields(ast.parse(PARAMETERS))


def all_faults(text, fields=FIELDS):
    ui = ui_lint.read_ui(text)
    checks = (ui_lint.class_faults, ui_lint.connection_faults, ui_lint.text_faults)
    return [fault for check in checks for fault in check(ui)] + ui_lint.parameter_faults(ui, fields)


def test_a_good_file_passes():
    assert all_faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"qMRMLWidget" name', '"QWidget" name', "the root is a QWidget"),
        ('class="QCheckBox"', 'class="QCheckBocks"', "QCheckBocks is not known"),
        ("<class>qMRMLNodeComboBox</class>", "<class>qMRMLTableView</class>", "qMRMLNodeComboBox is not declared"),
        ("<header>qMRMLNodeComboBox.h</header>", "", "the header in <customwidgets>"),
        ("<extends>QWidget</extends><header>ctkS", "<extends>QWigdet</extends><header>ctkS", "<extends>"),
        ("<container>1</container>", "", "qMRMLWidget: <container> is wrong"),
        ('name="dilCheckBox"', 'name="slider"', "two widgets have the name slider"),
        ("<receiver>t2wSelector</receiver>", "<receiver>t2wSelektor</receiver>", "t2wSelector is not connected"),
        ("<receiver>t2wSelector</receiver>", "<receiver>t2wSelektor</receiver>", "names t2wSelektor, no widget"),
        ("<slot>setMRMLScene(vtkMRMLScene*)</slot>", "<slot>setMRMLScene()</slot>", "t2wSelector is not connected"),
        ("<string>T2w:</string>", "<string/>", "t2wLabel has no text"),
        ("<string>DIL</string>", "<string> </string>", "dilCheckBox has no text"),
        ("<string>The image</string>", "<string></string>", "t2wSelector has no toolTip"),
        ("<cstring>t2wSelector</cstring>", "<cstring>selector</cstring>", "the label of selector"),
        ("<string>dil</string>", "<string>dill</string>", "there is no parameter dill"),
        ("<string>dil</string>", "<string>model</string>", "a QCheckBox cannot show the parameter model"),
        ("<string>threshold</string>", "<string>margin</string>", "cannot show the parameter margin (float)"),
        ("<string>threshold</string>", "<string>limit</string>", "cannot show the parameter limit (int)"),
        ("<string>t2w</string>", "<string>mask</string>", "takes vtkMRMLSegmentationNode"),
        ('class="QCheckBox"', 'class="QPushButton"', "not checkable"),
    ],
)
def test_a_fault_is_found(old, new, told):
    assert GOOD.count(old) == 1, "the fault itself must be well placed"
    assert any(told in fault for fault in all_faults(GOOD.replace(old, new)))


def test_the_kinds_of_parameters_are_read_off_the_class():
    assert FIELDS == {
        "t2w": "node:vtkMRMLScalarVolumeNode",
        "mask": "node:vtkMRMLSegmentationNode",
        "dil": "bool",
        "threshold": "float in a range",
        "limit": "int",
        "margin": "float",
        "model": "str",
        "window": "choice",
        "device": "enum",
        "folder": "path",
        "cache": "other",
    }


@pytest.mark.parametrize(
    "line",
    ["ui.t2wSelektor", "self.ui.t2w", "self._ui.slide.value = 1", 'getattr(self.ui, "dil")', 'getattr(ui, f"{a}Box2")'],
)
def test_a_widget_that_is_not_there_is_found(line):
    assert len(ui_name_faults(ui_lint.read_ui(GOOD), ast.parse(line))) == 1


@pytest.mark.parametrize(
    "line", ["ui.slider.value", 'getattr(ui, f"{task}CheckBox")', "getattr(ui, name)", "gui.slide"]
)
def test_a_widget_that_is_there_passes(line):
    assert ui_name_faults(ui_lint.read_ui(GOOD), ast.parse(line)) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('nodeBinding("t1w", ui.t2wSelector)', "no parameter t1w"),
        ('nodeBinding("dil", ui.t2wSelector)', "is bool, not node"),
        ('checkBinding("dil", ui.slider)', "slider is a ctkSliderWidget"),
        ('nodeBinding("mask", ui.t2wSelector)', "offers vtkMRMLScalarVolumeNode"),
    ],
)
def test_a_wrong_binding_is_found(line, told):
    faults = binding_faults(ui_lint.read_ui(GOOD), FIELDS, ast.parse(line))
    assert len(faults) == 1
    assert told in faults[0]


def test_right_bindings_pass():
    code = 'nodeBinding("t2w", ui.t2wSelector)\ncheckBinding("dil", ui.dilCheckBox)'
    assert binding_faults(ui_lint.read_ui(GOOD), FIELDS, ast.parse(code)) == []
