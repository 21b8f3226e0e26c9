# SPDX-License-Identifier: Apache-2.0
"""Models of several sequences in the panel: the ADC and high-b selectors, what the Run button asks for, and a run."""

import pytest
import slicer

from ProstateXferSlicer.scene.provenance import provenanceOf
from study_child.fixtures import until

RUN_TIMEOUT_S = 300.0


@pytest.fixture
def three(tmp_path):
    """A file imported from an nnU-Net of T2w, ADC and high-b."""
    pytest.importorskip("torch")
    from nnunet_results.folders import configuration, random_weights, write_folder

    from ProstateXferLib.checkpoints.importers import import_checkpoint

    folder = write_folder(
        tmp_path / "nnunet",
        configuration(channels=3, patch_size=[16, 64, 64]),
        dataset={"channel_names": {"0": "T2W", "1": "ADC", "2": "HBV"}},
        weights=random_weights(channels=3),
    )
    return import_checkpoint(folder, tmp_path / "three.safetensors", name="three")


@pytest.fixture
def maps(t2w_volume):
    """An ADC map and a high-b image beside the T2w image."""
    return [slicer.modules.volumes.logic().CloneVolume(t2w_volume, name) for name in ("ADC", "high b")]


def test_the_selectors_follow_the_models_of_the_ticked_tasks_and_name_them(panel, t2w_volume, three):
    ui = panel.ui
    panel.choose(t2w=t2w_volume, dilModel=str(three))
    for selector in (ui.adcSelector, ui.highBSelector):
        assert selector.enabled
        assert selector.toolTip.endswith("of the same examination as the T2w, read by 'three'")
    panel.choose(dil=False)
    for selector in (ui.adcSelector, ui.highBSelector):
        assert not selector.enabled and selector.toolTip.startswith("The chosen models do not read")


def test_the_run_button_says_which_image_is_missing_until_none_is(panel, t2w_volume, three, maps):
    button, takes = panel.ui.applyButton, "or another model: 'three' takes T2w, ADC and high-b."
    panel.choose(dilModel=str(three))
    steps = [
        ({}, "Choose a T2w image for Prostate and DIL, and the ADC map and the high-b image for DIL"),
        ({"t2w": t2w_volume}, "Choose the ADC map and the high-b image for DIL"),
        ({"adc": maps[0]}, "Choose the high-b image for DIL"),
    ]
    for choice, asked in steps:
        panel.choose(**choice)
        assert not button.enabled and button.toolTip == f"{asked}, {takes}"
    panel.choose(highB=maps[1])
    assert button.enabled, button.toolTip


def test_the_images_reach_the_child_and_are_kept_as_the_runs_own(panel, t2w_volume, three, maps, study_of):
    panel.choose(t2w=t2w_volume, adc=maps[0], highB=maps[1], prostateModel=str(three), dilModel=str(three))
    panel.run(study_of("prostate", "dil"))
    words = panel.child.calls[0]["words"]
    assert {word.partition("=")[0] for word in words} >= {"--t2w", "--adc", "--high-b"}
    assert panel.parameters.usedAdc is maps[0] and panel.parameters.usedHighB is maps[1]


@pytest.mark.slow
def test_a_click_runs_an_nnunet_of_three_sequences(panel, t2w_volume, three, maps, temporary_folder):
    panel.child.replaces = set()
    panel.choose(t2w=t2w_volume, adc=maps[0], highB=maps[1], prostateModel=str(three), dilModel=str(three))
    panel.choose(device="cpu")
    panel.ui.applyButton.click()
    until(lambda: not panel.isRunning(), RUN_TIMEOUT_S)
    assert panel.ui.statusLabel.text.startswith("Done in"), panel.ui.logTextEdit.toPlainText()
    record = provenanceOf(panel.parameters.segmentation)["Provenance"]["segmentation"]
    assert list(record["input_sha256"]) == ["T2w", "ADC", "high-b"]
    assert not list(temporary_folder.iterdir())
