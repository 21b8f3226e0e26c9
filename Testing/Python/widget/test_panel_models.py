# SPDX-License-Identifier: Apache-2.0
"""The model lists: what there is, what is not here and why, a model from a file, a folder of models, and the card."""

import json
import shutil
from pathlib import Path

import pytest
import slicer
from nnunet_results.folders import write_folder

from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.resources_dir import resources_dir

SHIPPED = resources_dir() / "Models"
DEFAULTS = {
    "prostate": "prostate-dil-small",
    "dil": "prostate-dil-small",
    "ctFromMr": "dgcf-mr-to-ct-small",
    "ctFromCbct": "dgcf-cbct-to-ct-small",
}


@pytest.fixture
def models(tmp_path):
    """An empty folder for models."""
    folder = tmp_path / "Modelle für Öl"
    folder.mkdir()
    return folder


def lines_of(panel, task):
    """The lines of a task's model list."""
    combo = getattr(panel.ui, f"{task}ModelComboBox")
    return [combo.itemText(index) for index in range(combo.count)]


@pytest.mark.parametrize(("task", "model"), DEFAULTS.items())
def test_each_task_lists_its_shipped_model_and_chooses_it(panel, task, model):
    combo = getattr(panel.ui, f"{task}ModelComboBox")
    assert combo.currentText == model == lines_of(panel, task)[0]
    assert not [line for line in lines_of(panel, task) if "dinov3" in line]


def test_a_model_that_is_not_here_is_listed_last_with_its_reason(panel, t2w_volume):
    panel.choose(t2w=t2w_volume, prostate=False, dil=False, ctFromMr=True)
    combo, line = panel.ui.ctFromMrModelComboBox, "dgcf (not here)"
    assert lines_of(panel, "ctFromMr")[-1] == line
    combo.setCurrentIndex(combo.count - 1)
    assert panel.parameters.ctFromMrModel == "dgcf"
    assert "dgcf" in combo.toolTip
    assert not panel.ui.applyButton.enabled and panel.ui.applyButton.toolTip == combo.toolTip
    assert "Not available" in panel.ui.modelCardBrowser.toPlainText()


def test_the_card_tells_training_data_licence_and_research_use(panel):
    panel.ui.prostateModelCardButton.click()
    text = panel.ui.modelCardBrowser.toPlainText()
    assert not panel.ui.modelCardSection.collapsed
    for word in ("Trained on", "PROMISE12", "Licence", "Research use only", "T2w", "Prostate", "SHA-256"):
        assert word in text, word
    assert str(SHIPPED / "prostate-dil-small.safetensors") in text


def test_a_choice_in_the_list_is_kept_and_a_scripts_choice_is_shown(panel, models):
    shutil.copy(SHIPPED / "prostate-dil-small.safetensors", models / "ours.safetensors")
    panel.choose(modelsFolder=str(models))
    combo = panel.ui.prostateModelComboBox
    combo.setCurrentIndex(lines_of(panel, "prostate").index("ours"))
    assert panel.parameters.prostateModel == "ours" and panel.parameters.dilModel == "prostate-dil-small"
    panel.choose(prostateModel="prostate-dil-small")
    assert combo.currentText == "prostate-dil-small"


def test_a_folder_adds_its_models_to_the_tasks_they_can_do(panel, models):
    shutil.copy(SHIPPED / "dgcf-cbct-to-ct-small.safetensors", models / "clinic.safetensors")
    panel.ui.modelsFolderPathLineEdit.setCurrentPath(str(models))
    assert "clinic" in lines_of(panel, "ctFromCbct")
    assert all("clinic" not in lines_of(panel, task) for task in ("prostate", "dil", "ctFromMr"))
    panel.ui.modelsFolderPathLineEdit.setCurrentPath("")
    assert "clinic" not in lines_of(panel, "ctFromCbct")


def test_a_folder_that_does_not_exist_is_told_at_the_button(panel, t2w_volume, models):
    panel.choose(t2w=t2w_volume, modelsFolder=str(models / "typo"))
    assert not panel.ui.applyButton.enabled
    assert "typo' does not exist" in panel.ui.applyButton.toolTip


def test_a_malformed_registry_in_a_folder_is_told_once(panel, t2w_volume, models, dialogs):
    (models / "registry.json").write_text("{not json")
    panel.choose(t2w=t2w_volume, modelsFolder=str(models))
    assert len(dialogs.texts("error")) == 1
    assert "registry" in dialogs.texts("error")[0]
    assert not panel.ui.applyButton.enabled and "registry" in panel.ui.applyButton.toolTip


def test_a_model_from_a_file_is_taken_for_this_task_alone(panel, t2w_volume, models, dialogs):
    path = shutil.copy(SHIPPED / "prostate-dil-small.safetensors", models / "Öl model.safetensors")
    dialogs.paths = [path]
    panel.choose(t2w=t2w_volume)
    panel.ui.prostateModelFileButton.click()
    assert panel.parameters.prostateModel == str(path) and panel.parameters.dilModel == "prostate-dil-small"
    assert panel.ui.prostateModelComboBox.currentText == str(path)
    assert panel.ui.applyButton.enabled
    assert "Öl model" in panel.ui.modelCardBrowser.toPlainText()


def test_cancelling_the_file_dialog_changes_nothing(panel, dialogs):
    panel.ui.prostateModelFileButton.click()
    assert dialogs.fileQuestions and panel.parameters.prostateModel == "prostate-dil-small"


@pytest.mark.parametrize(
    ("task", "content", "reason"),
    [
        ("dil", "dgcf-mr-to-ct-small.safetensors", "makes a synthetic CT and cannot do DIL"),
        ("ctFromMr", "dgcf-cbct-to-ct-small.safetensors", "takes CBCT and cannot do CT from MR"),
        ("prostate", b"no checkpoint at all", "not a complete safetensors file"),
    ],
)
def test_a_file_that_cannot_do_the_task_is_refused_with_its_reason(panel, models, dialogs, task, content, reason):
    path = models / "file.safetensors"
    path.write_bytes(content if isinstance(content, bytes) else (SHIPPED / content).read_bytes())
    dialogs.paths = [path]
    before = getattr(panel.parameters, f"{task}Model")
    getattr(panel.ui, f"{task}ModelFileButton").click()
    assert len(dialogs.texts("error")) == 1 and reason in dialogs.texts("error")[0]
    assert getattr(panel.parameters, f"{task}Model") == before


def test_a_file_that_has_gone_is_named_and_its_card_button_says_why_it_is_grey(panel, t2w_volume, models):
    path = shutil.copy(SHIPPED / "prostate-dil-small.safetensors", models / "gone.safetensors")
    panel.choose(t2w=t2w_volume, prostateModel=str(path))
    assert panel.ui.prostateModelCardButton.enabled
    tip = panel.ui.prostateModelCardButton.toolTip
    Path(path).unlink()
    panel.choose(prostateModel="prostate-dil-small")
    panel.choose(prostateModel=str(path))
    assert panel.ui.prostateModelComboBox.currentText == f"{path} (not found)"
    assert not panel.ui.prostateModelCardButton.enabled and panel.ui.prostateModelCardButton.toolTip != tip
    assert not panel.ui.applyButton.enabled


def test_a_damaged_model_of_a_folder_is_listed_with_its_reason(panel, models):
    damaged = bytearray((SHIPPED / "dgcf-cbct-to-ct-small.safetensors").read_bytes()[:5000])
    (models / "half.safetensors").write_bytes(damaged)
    panel.choose(modelsFolder=str(models), ctFromCbct=True)
    line = next((line for line in lines_of(panel, "ctFromCbct") if line.startswith("half")), None)
    assert line == "half (not here)" or line == "half (damaged)"


def test_the_chosen_model_reaches_the_child(panel, t2w_volume, models, study_of):
    path = shutil.copy(SHIPPED / "prostate-dil-small.safetensors", models / "Öl model.safetensors")
    panel.choose(t2w=t2w_volume, dilModel=str(path), modelsFolder=str(models))
    panel.run(study_of("prostate", "dil"))
    words = panel.child.calls[0]["words"]
    assert f"--dil-model={path}" in words and "--prostate-model=prostate-dil-small" in words
    assert f"--models-folder={models}" in words


def test_a_model_that_reads_adc_makes_its_selector_usable(panel, t2w_volume, models):
    from ProstateXferLib.checkpoints.file_format import read_header

    source = SHIPPED / "prostate-dil-small.safetensors"
    header, _ = read_header(source)
    card = header["__metadata__"]
    key = next(name for name, value in card.items() if '"inputs"' in value)
    card[key] = json.dumps({**json.loads(card[key]), "inputs": ["ADC"]})
    raw = source.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    text = json.dumps(header).encode()
    path = models / "adc.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    panel.choose(t2w=t2w_volume, prostateModel=str(path))
    assert panel.ui.adcSelector.enabled and not panel.ui.highBSelector.enabled
    assert panel.ui.adcSelector.toolTip.endswith("of the same examination as the T2w, read by 'prostate-dil-small'")
    assert "Choose the ADC map for Prostate" in panel.ui.applyButton.toolTip and not panel.ui.applyButton.enabled
    panel.choose(adc=slicer.modules.volumes.logic().CloneVolume(t2w_volume, "ADC"))
    assert panel.ui.applyButton.enabled


NNUNET = "nnUNet_results/Dataset007_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"


def test_a_results_folder_of_nnunet_is_chosen_like_any_model(panel, t2w_volume, models, study_of):
    path = write_folder(models / NNUNET)
    panel.choose(t2w=t2w_volume, modelsFolder=str(models))
    combo = panel.ui.dilModelComboBox
    combo.setCurrentIndex(lines_of(panel, "dil").index(NNUNET))
    assert panel.parameters.dilModel == NNUNET and combo.toolTip == "nnU-Net 3d_fullres of Dataset007_Test"
    assert panel.ui.applyButton.enabled
    panel.ui.dilModelCardButton.click()
    card = panel.ui.modelCardBrowser.toPlainText()
    assert str(path) in card and "Prostate, DIL" in card and "Dataset007_Test" in card
    panel.run(study_of("prostate", "dil"))
    assert f"--dil-model={NNUNET}" in panel.child.calls[0]["words"]


def test_an_nnunet_that_cannot_do_a_task_is_listed_with_the_reason(panel, t2w_volume, models):
    write_folder(models / "liver", dataset={"labels": {"background": 0, "liver": 1, "tumour of it": 2}})
    (write_folder(models / "half") / "plans.json").unlink()
    panel.choose(t2w=t2w_volume, modelsFolder=str(models))
    assert lines_of(panel, "prostate")[-2:] == ["half (damaged)", "liver (not for this task)"]
    assert not [line for line in lines_of(panel, "ctFromMr") if "liver" in line]
    panel.ui.prostateModelComboBox.setCurrentIndex(lines_of(panel, "prostate").index("liver (not for this task)"))
    assert "finds no prostate" in panel.ui.prostateModelComboBox.toolTip
    assert not panel.ui.applyButton.enabled


def test_the_plans_stand_for_their_folder_in_the_file_dialog(panel, t2w_volume, models, dialogs):
    path = write_folder(models / "a folder")
    dialogs.paths = [path / "plans.json"]
    panel.choose(t2w=t2w_volume)
    panel.ui.prostateModelFileButton.click()
    assert panel.parameters.prostateModel == str(path)
    assert panel.ui.prostateModelComboBox.currentText == str(path)
    assert panel.ui.applyButton.enabled
    dialogs.paths = [path / "plans.json"]
    panel.ui.ctFromMrModelFileButton.click()
    assert "segments and cannot do CT from MR" in dialogs.texts("error")[0]


def test_an_ensemble_is_chosen_like_any_model_and_grey_without_a_member(panel, t2w_volume, models):
    members = [
        models / "a.safetensors",
        write_folder(models / "b", dataset={"labels": {"background": 0, "prostate": 1}}),
    ]
    shutil.copy(SHIPPED / "prostate-dil-small.safetensors", members[0])
    make_ensemble(models / "ours.safetensors", members, (3, 1))
    panel.choose(t2w=t2w_volume, modelsFolder=str(models), prostateModel="ours")
    assert "ours" in lines_of(panel, "prostate") and panel.ui.applyButton.enabled
    panel.ui.prostateModelCardButton.click()
    card = panel.ui.modelCardBrowser.toPlainText()
    assert (
        "Averages by probability" in card and "prostate-dil-small (0.750); dataset007-test-3d-fullres (0.250)" in card
    )
    members[1].rename(models.parent / "moved away")
    panel.choose(modelsFolder="")
    panel.choose(modelsFolder=str(models))
    assert "ours (incomplete)" in lines_of(panel, "prostate") and not panel.ui.applyButton.enabled
    for tip in (panel.ui.prostateModelComboBox.toolTip, panel.ui.applyButton.toolTip):
        assert "The member 'dataset007-test-3d-fullres'" in tip and "is not on this machine" in tip
