# SPDX-License-Identifier: Apache-2.0
"""The host reads a .ui file as Slicer does, and raises where Slicer would go on with something missing."""

import pytest
import slicer

_UI = """<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout">
 <item><widget class="ctkCollapsibleButton" name="section"><property name="text"><string>Inputs</string></property>
  <property name="collapsed"><bool>true</bool></property><layout class="QVBoxLayout">
  <item><widget class="qMRMLNodeComboBox" name="selector">
   <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
   <property name="SlicerParameterName" stdset="0"><string>t2w</string></property></widget></item>
  <item><widget class="ctkPathLineEdit" name="folder">
   <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable</set></property></widget></item>
 </layout></widget></item></layout></widget>
<customwidgets>
 <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>a.h</header></customwidget>
 <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>a.h</header></customwidget>
 <customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends><header>a.h</header></customwidget>
 <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><header>a.h</header></customwidget>
</customwidgets>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


@pytest.fixture
def load(tmp_path, scene):
    """load(old, new): the panel of the file above with one text replaced."""

    def load(old="", new=""):
        (tmp_path / "panel.ui").write_text(_UI.replace(old, new) if old else _UI)
        return slicer.util.loadUI(str(tmp_path / "panel.ui"))

    return load


def test_the_widgets_are_what_the_file_says_and_have_their_properties(load):
    ui = slicer.util.childWidgetVariables(load())
    assert ui.selector.className() == "qMRMLNodeComboBox"
    assert ui.selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.selector.property("SlicerParameterName") == "t2w"
    assert ui.section.collapsed and not ui.selector.visible
    assert ui.folder.filters == ui.folder.Dirs | ui.folder.Writable


def test_a_connection_gives_the_scene_to_the_selector(load, scene):
    panel = load()
    selector = slicer.util.childWidgetVariables(panel).selector
    assert not selector.enabled
    panel.setMRMLScene(scene)
    assert selector.enabled and selector.mrmlScene() is scene


def test_without_the_connection_the_selector_stays_without_a_scene(load, scene):
    panel = load(_UI[_UI.index("<connections>") : _UI.index("</ui>")], "")
    panel.setMRMLScene(scene)
    assert not slicer.util.childWidgetVariables(panel).selector.enabled


def test_the_children_are_no_attributes_of_the_panel(load):
    with pytest.raises(AttributeError):
        load().selector  # noqa: B018


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"ctkPathLineEdit"', '"ctkPathLine"', "unknown class 'ctkPathLine'"),
        ("<class>ctkPathLineEdit</class>", "<class>ctkPathEdit</class>", "unknown class 'ctkPathEdit'"),
        ('"nodeTypes"', '"nodeType"', "no property 'nodeType'"),
        ("<slot>setMRMLScene", "<slot>setScene", "no slot 'setScene"),
        ("<signal>mrmlSceneChanged", "<signal>sceneChanged", "no signal 'sceneChanged"),
        ("<receiver>selector", "<receiver>t2wSelector", "'t2wSelector', which it does not have"),
    ],
)
def test_a_mistake_in_the_file_is_an_error(load, old, new, reason):
    with pytest.raises(RuntimeError, match=reason):
        load(old, new)
