# SPDX-License-Identifier: Apache-2.0
"""Inputs, tasks and options: what is chosen is kept in the scene, and what cannot be done says why."""

import pytest
import slicer

from ProstateXferSlicer.scene.parameters import TASK_OF_PARAMETER

BUTTONS = ("QPushButton", "QToolButton")
INTERACTIVE = (*BUTTONS, "QCheckBox", "QComboBox", "QLineEdit", "qMRMLNodeComboBox", "ctkPathLineEdit")
INTERACTIVE += ("ctkCollapsibleButton", "QTableWidget", "QTextBrowser", "QPlainTextEdit", "QProgressBar")
SELECTORS = {
    "t2w": "t2wSelector",
    "adc": "adcSelector",
    "highB": "highBSelector",
    "cbct": "cbctSelector",
    "referenceCt": "referenceCtSelector",
}


def widgets_of(panel, *classes):
    """The panel's named widgets of some classes."""
    found = {name: widget for name, widget in vars(panel.ui).items() if type(widget).__name__ in classes}
    assert len(found) > 5
    return found


def choose_only(panel, *tasks):
    """Tick these tasks."""
    panel.choose(**{name: name in tasks for name in TASK_OF_PARAMETER})


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("prostate", "Choose a T2w image for Prostate."),
        ("dil", "Choose a T2w image for DIL."),
        ("ctFromMr", "Choose a T2w image for CT from MR."),
        ("ctFromCbct", "Choose a CBCT for CT from CBCT."),
    ],
)
def test_run_is_grey_and_says_which_image_a_task_lacks(panel, task, reason):
    choose_only(panel, task)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == reason


def test_run_is_grey_without_a_task(panel, t2w_volume):
    choose_only(panel)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.startswith("Choose at least one task")


def test_the_only_volume_of_the_scene_is_chosen_by_itself(t2w_volume, panel):
    assert panel.parameters.t2w is t2w_volume
    assert panel.ui.t2wSelector.currentNode() is t2w_volume
    assert panel.ui.applyButton.enabled


def test_of_two_volumes_none_is_chosen(t2w_volume, cbct_volume, panel):
    assert panel.parameters.t2w is None
    assert panel.ui.t2wSelector.currentNode() is None


def test_a_choice_of_before_is_not_overruled_by_the_only_volume(t2w_volume, panel):
    panel.choose(t2w=None, cbct=t2w_volume)
    slicer.util.selectModule("ProstateXfer")
    assert panel.parameters.t2w is None and panel.parameters.cbct is t2w_volume


def test_a_label_map_is_no_image(scene, t2w_volume, panel):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    selector = panel.ui.t2wSelector
    assert selector.nodeCount() == 1
    slicer.util.selectModule("ProstateXfer")
    assert panel.parameters.t2w is t2w_volume


@pytest.mark.parametrize(("parameter", "selector"), SELECTORS.items())
def test_a_chosen_image_is_kept_and_a_scripts_choice_is_shown(t2w_volume, cbct_volume, panel, parameter, selector):
    widget = getattr(panel.ui, selector)
    widget.setCurrentNode(cbct_volume)
    assert getattr(panel.parameters, parameter) is cbct_volume
    panel.choose(**{parameter: t2w_volume})
    assert widget.currentNode() is t2w_volume
    widget.setCurrentNode(None)
    assert getattr(panel.parameters, parameter) is None


def test_a_reference_segmentation_is_kept_and_shown(panel):
    nodes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name) for name in "ab"]
    panel.ui.referenceSegmentationSelector.setCurrentNode(nodes[1])
    assert panel.parameters.referenceSegmentation is nodes[1]
    panel.choose(referenceSegmentation=nodes[0])
    assert panel.ui.referenceSegmentationSelector.currentNode() is nodes[0]


@pytest.mark.parametrize(
    ("parameter", "widget"),
    [
        *((name, f"{name}CheckBox") for name in TASK_OF_PARAMETER),
        ("testTimeAugmentation", "ttaCheckBox"),
        ("uncertainty", "uncertaintyCheckBox"),
    ],
)
def test_a_tick_is_kept_and_a_scripts_tick_is_shown(panel, parameter, widget):
    box, before = getattr(panel.ui, widget), getattr(panel.parameters, parameter)
    assert box.checked == before
    box.click()
    assert getattr(panel.parameters, parameter) is not before
    panel.choose(**{parameter: before})
    assert box.checked == before


@pytest.mark.parametrize(("parameter", "widget"), [("device", "deviceComboBox"), ("precision", "precisionComboBox")])
def test_a_list_is_kept_and_a_scripts_choice_is_shown(panel, parameter, widget):
    box = getattr(panel.ui, widget)
    box.setCurrentIndex(1)
    assert getattr(panel.parameters, parameter) == box.currentText != "auto"
    panel.choose(**{parameter: "auto"})
    assert box.currentText == "auto"


def test_a_graphics_card_by_number_is_shown_although_it_is_not_listed(panel, t2w_volume):
    panel.choose(t2w=t2w_volume, device="cuda:1")
    assert panel.ui.deviceComboBox.currentText == "cuda:1"
    assert panel.ui.applyButton.enabled


def test_a_device_that_does_not_exist_is_told_at_the_button(panel, t2w_volume):
    panel.choose(t2w=t2w_volume, device="abacus")
    assert not panel.ui.applyButton.enabled and "abacus" in panel.ui.applyButton.toolTip


def test_the_models_folder_is_kept_and_shown(panel, tmp_path):
    folder = tmp_path / "Modelle für Öl"
    folder.mkdir()
    panel.ui.modelsFolderPathLineEdit.setCurrentPath(str(folder))
    assert panel.parameters.modelsFolder == str(folder)
    panel.choose(modelsFolder="")
    assert panel.ui.modelsFolderPathLineEdit.currentPath == ""


@pytest.mark.parametrize(("selector", "title"), [("adcSelector", "ADC"), ("highBSelector", "high-b")])
def test_what_no_chosen_model_reads_cannot_be_chosen_and_says_so(panel, selector, title):
    widget = getattr(panel.ui, selector)
    assert not widget.enabled
    assert widget.toolTip.startswith("The chosen models do not read") and title.lower() in widget.toolTip.lower()


def test_model_lists_of_tasks_that_are_not_ticked_are_grey_and_say_so(panel):
    choose_only(panel, "dil")
    assert panel.ui.dilModelComboBox.enabled
    assert not panel.ui.ctFromMrModelComboBox.enabled
    assert "Tick CT from MR" in panel.ui.ctFromMrModelComboBox.toolTip
    assert "Tick" not in panel.ui.dilModelComboBox.toolTip


def test_everything_a_user_can_touch_has_a_tooltip(panel):
    for name, widget in widgets_of(panel, *INTERACTIVE).items():
        assert widget.toolTip, name


def test_every_grey_button_says_why(panel, finished_panel):
    tips_of_enabled = {name: widget.toolTip for name, widget in widgets_of(panel, *BUTTONS).items() if widget.enabled}
    assert {"remeasureButton", "showDifferenceFromMrButton", "applyButton", "exportReportButton"} < set(tips_of_enabled)
    slicer.mrmlScene.Clear()
    panel.choose(prostateModel="/gone.safetensors")
    grey = [name for name, widget in widgets_of(panel, *BUTTONS).items() if not widget.enabled]
    assert len(grey) >= 13
    for name in grey:
        tip = getattr(panel.ui, name).toolTip
        assert tip and tip != tips_of_enabled.get(name), name


def test_a_grey_dicom_button_says_that_the_image_has_no_dicom_origin(panel, t2w_volume):
    assert "T2w" not in panel.ui.exportDicomButton.toolTip
    panel.choose(t2w=t2w_volume)
    assert not panel.ui.exportDicomButton.enabled
    assert "'T2w' was not loaded from DICOM" in panel.ui.exportDicomButton.toolTip


def test_an_input_that_is_deleted_is_no_longer_chosen(panel, t2w_volume):
    panel.choose(t2w=t2w_volume)
    assert panel.ui.applyButton.enabled
    slicer.mrmlScene.RemoveNode(t2w_volume)
    assert panel.parameters.t2w is None
    assert panel.ui.applyButton.toolTip == "Choose a T2w image for Prostate and DIL."
