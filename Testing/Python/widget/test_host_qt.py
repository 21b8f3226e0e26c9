# SPDX-License-Identifier: Apache-2.0
"""The host's `qt` and `ctk` are as strict as PythonQt in Slicer, so that a wrong name fails here and not there."""

import sys
import time

import ctk
import pytest
import qt


@pytest.fixture(autouse=True)
def _clean(scene):
    """Every test here begins with an empty scene and no messages."""


def test_a_property_is_an_attribute_and_cannot_be_called():
    label = qt.QLabel("before")
    label.text = "after"
    assert label.text == "after"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        label.text()


def test_what_is_no_property_stays_a_call():
    box = qt.QCheckBox("a")
    box.checked, box.enabled = True, False
    assert box.isChecked() and not box.isEnabled() and not box.isVisible()
    assert (box.checked, box.enabled, box.visible) == (True, False, False)
    text = qt.QPlainTextEdit()
    text.setPlainText("line")
    assert text.toPlainText() == text.plainText == "line"


def test_setters_are_methods():
    button = qt.QPushButton()
    button.setText("Run")
    button.setEnabled(False)
    assert (button.text, button.enabled) == ("Run", False)


@pytest.mark.parametrize("name", ["txt", "Text", "isChecked", "setText", "clicked"])
def test_an_attribute_that_is_unknown_or_a_method_cannot_be_set(name):
    with pytest.raises(AttributeError):
        setattr(qt.QPushButton(), name, 1)


def test_objects_that_qt_makes_itself_are_as_strict():
    table = qt.QTableWidget(2, 3)
    assert (table.rowCount, table.columnCount) == (2, 3)
    header = table.horizontalHeader()
    header.stretchLastSection = True
    assert header.stretchLastSection is True
    with pytest.raises(AttributeError):
        header.stretchLast = True
    with pytest.raises(AttributeError):
        qt.QTableWidgetItem("x").txt = "y"


def test_a_subclass_in_python_may_have_attributes_of_its_own():
    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.anything = 1
    panel.toolTip = "shown"
    assert (panel.anything, panel.toolTip) == (1, "shown")


@pytest.mark.parametrize(("name", "value"), [("text", None), ("text", 5), ("width", 3)])
def test_a_value_of_the_wrong_type_or_for_a_read_only_property_is_refused(name, value):
    with pytest.raises(AttributeError):
        setattr(qt.QLabel(), name, value)


def test_name_is_the_object_name():
    widget = qt.QWidget()
    widget.name = "panel"
    assert widget.objectName == widget.name == "panel"


def test_signals_connect_by_signature_or_by_name_and_hand_over_what_the_signature_says():
    button, seen = qt.QPushButton(), []
    button.setCheckable(True)
    assert button.connect("clicked()", lambda value="none": seen.append(value))
    assert button.connect("clicked(bool)", lambda value="none": seen.append(value))
    assert button.connect("toggled(bool)", lambda *values: seen.append(values))
    button.clicked.connect(lambda: seen.append("by name"))
    button.click()
    assert sorted(map(str, seen)) == ["(True,)", "True", "by name", "none"]


def test_a_disconnected_function_is_not_called():
    button, seen = qt.QPushButton(), []
    button.connect("clicked()", seen.clear)
    assert button.disconnect("clicked()", seen.clear)
    seen.append("kept")
    button.click()
    assert seen == ["kept"]


@pytest.mark.parametrize("signature", ["clickd()", "clicked", "clicked(QString)"])
def test_a_wrong_signal_only_prints_and_says_false(signature, capsys):
    assert qt.QPushButton().connect(signature, print) is False
    assert signature in capsys.readouterr().err


def test_what_pythonqt_does_not_have_is_not_there():
    assert not [name for name in ("Signal", "Slot", "Property") if hasattr(qt, name)]


def test_file_dialogs_answer_with_a_string(dialogs):
    dialogs.paths = ["/data/t2w.nrrd"]
    assert qt.QFileDialog.getOpenFileName(None, "Model file", "", "*.safetensors") == "/data/t2w.nrrd"
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""
    assert dialogs.fileQuestions == ["Model file", "Folder"]


def test_boxes_do_not_wait_and_are_written_down(dialogs):
    dialogs.confirm = False
    assert qt.QMessageBox.question(None, "Stop", "Stop the run?") == qt.QMessageBox.No
    box = qt.QMessageBox()
    box.text = "Saved"
    box.exec_()
    qt.QDesktopServices.openUrl(qt.QUrl("https://www.slicer.org"))
    assert (dialogs.texts("confirm"), dialogs.texts("box")) == (["Stop the run?"], ["Saved"])
    assert dialogs.openedUrls == ["https://www.slicer.org"]


def test_settings_begin_empty_and_keep_what_is_set():
    import slicer

    assert slicer.util.settingsValue("ProstateXfer/Device", "auto") == "auto"
    qt.QSettings().setValue("ProstateXfer/Fast", True)
    assert slicer.util.settingsValue("ProstateXfer/Fast", False, converter=slicer.util.toBool) is True


def test_a_timer_shoots_once():
    seen = []
    timer = qt.QTimer()
    timer.singleShot = True
    timer.connect("timeout()", lambda: seen.append("timer"))
    timer.start(1)
    qt.QTimer.singleShot(1, lambda: seen.append("static"))
    _wait(lambda: len(seen) == 2)
    assert sorted(seen) == ["static", "timer"] and not timer.isActive()


def test_a_process_prints_lines_while_it_runs_and_can_be_stopped():
    process, lines, ends = qt.QProcess(), [], []
    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("ANSWER", "42")
    process.setProcessEnvironment(environment)
    process.connect("readyReadStandardOutput()", lambda: lines.append(process.readAllStandardOutput().data()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append(status))
    program = "import os, time; print(os.environ['ANSWER'], flush=True); time.sleep(60)"
    process.start(sys.executable, ["-c", program])
    _wait(lambda: lines)
    assert b"".join(lines).split() == [b"42"]
    assert process.state() == qt.QProcess.Running and process.processId() > 0
    process.terminate()
    _wait(lambda: ends)
    assert ends == [qt.QProcess.CrashExit]


def test_a_collapsed_section_hides_its_children_and_no_others():
    section = ctk.ctkCollapsibleButton("Advanced")
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.hide()
    section.show()
    seen = []
    section.connect("contentsCollapsed(bool)", seen.append)
    section.collapsed = True
    assert (shown.visible, hidden.visible) == (False, False)
    shown.setVisible(True)  # takes effect only once the section is open
    assert not shown.visible
    section.collapsed = False
    assert (shown.visible, hidden.visible, seen) == (True, False, [True, False])


def test_a_path_line_tells_of_changes_and_browses(dialogs):
    line, seen = ctk.ctkPathLineEdit(), []
    line.connect("currentPathChanged(QString)", seen.append)
    line.currentPath = "/models"
    line.filters = ctk.ctkPathLineEdit.Dirs
    dialogs.paths = ["/other"]
    line.browse()
    assert seen == ["/models", "/other"] and line.currentPath == "/other"
    with pytest.raises(AttributeError):
        line.path = "/models"


def test_a_slider_keeps_to_its_range():
    slider, seen = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.decimals = 0, 1, 2
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 0.5
    slider.setValue(7)
    assert seen == [0.5, 1.0] and slider.value == 1.0


def test_an_error_in_a_slot_does_not_get_lost(callback_errors):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: [][0])
    button.click()
    assert isinstance(callback_errors.pop(), IndexError)


def _wait(condition, seconds=10) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        qt.QCoreApplication.processEvents()
        time.sleep(0.005)
    assert condition()
