# SPDX-License-Identifier: Apache-2.0
"""nnU-Net results folders on the command line and in the panel's lists: shown, imported, run."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_results.folders import random_weights, write_folder

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cohort.model_choice import models_for
from ProstateXferLib.cohort.task import Task


@pytest.fixture
def folder(tmp_path):
    """A folder of two folds."""
    return write_folder(
        tmp_path / "nnU Net__plans__3d_fullres", folds=("0", "1"), weights=lambda fold: random_weights(seed=int(fold))
    )


def test_a_folder_is_shown_like_a_file(folder, capsys):
    assert main(["models", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "dataset007-test-3d-fullres" in shown and "1 Prostate, 2 DIL" in shown


def test_a_folder_has_no_checksums_and_that_is_told(folder, capsys):
    assert main(["models", str(folder), "--validate"]) != 0
    assert "has no checksums" in capsys.readouterr().err


def test_a_folder_too_high_or_too_low_is_told(folder, capsys):
    (folder / "fold_0" / "validation").mkdir()
    for wrong in (folder.parent, folder / "fold_0" / "validation"):
        for command in (["models", str(wrong)], ["import", str(wrong), str(folder.parent / "x.safetensors")]):
            assert main(command) != 0
            assert "plans.json is missing; give the folder that has" in capsys.readouterr().err


def test_a_folder_is_no_encoder_to_export(folder, tmp_path, capsys):
    for model in (folder, folder / "fold_0"):
        assert main(["export", str(model), str(tmp_path / "x.pth")]) == 1
        told = capsys.readouterr().err
        assert "is a folder: only the file of an encoder can be exported" in told and "nnU-Net folder is a" in told


def test_the_doctor_lists_folders_as_the_list_of_models_does(tmp_path, monkeypatch, capsys):
    """By the same names; one that cannot be opened with the reason."""
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(tmp_path / "models"))
    whole = write_folder(tmp_path / "models" / "Dataset007_Test" / "nnUNetTrainer__nnUNetPlans__2d")
    broken = write_folder(tmp_path / "models" / "Dataset007_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    (broken / "fold_0" / "checkpoint_final.pth").unlink()
    assert main(["doctor", "--json"]) == 0
    models = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    found = {model["name"]: model for model in models if "__" in model["name"]}
    assert list(found) == [f"Dataset007_Test/{path.name}" for path in (whole, broken)]
    first, second = found.values()
    assert (first["state"], first["sha256"]) == ("not in the registry", load_checkpoint(whole).sha256)
    assert (second["state"], second["sha256"]) == ("cannot be opened", None)
    assert "fold 0 has no checkpoint" in second["advice"]
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["models"]
    assert set(found) <= {model["name"] for model in listed}


def test_a_folder_segments_as_the_file_imported_from_it(folder, noise_file, tmp_path):
    out = tmp_path / "one.safetensors"
    assert main(["import", str(folder), str(out)]) == 0
    labels = []
    for name, model in (("a", folder), ("b", out)):
        target = tmp_path / f"{name}.nii.gz"
        command = [
            "segment",
            str(noise_file),
            "-o",
            str(target),
            "-m",
            str(model),
            "--accumulate",
            "fp16",
            "--device",
            "cpu",
        ]
        assert main(command) == 0
        labels.append(sitk.GetArrayFromImage(sitk.ReadImage(target)))
        record = json.loads(target.with_name(f"{target.name}.json").read_text(encoding="utf-8"))
        assert record["options"]["accumulate"] == "fp16"
    assert np.array_equal(*labels) and len(np.unique(labels[0])) > 1


def test_folds_checkpoint_and_inputs_can_be_chosen(folder, tmp_path, capsys):
    out = tmp_path / "one.safetensors"
    assert main(["import", str(folder), str(out), "--fold", "1", "--inputs", "ADC"]) == 0
    card = read_card(out)
    assert card.preprocessing.nnunet.folds == ("1",) and card.inputs == ("ADC",)
    assert main(["import", str(folder), str(tmp_path / "x.safetensors"), "--checkpoint", "checkpoint_best.pth"]) != 0
    assert "checkpoint_best.pth" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_an_imported_folder_is_in_the_panel_s_lists(folder, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    assert main(["import", str(folder), str(models / "our-nnunet.safetensors")]) == 0
    for task in (Task.PROSTATE, Task.DIL):
        option = next(option for option in models_for(task, models) if option.name == "our-nnunet")
        assert option.state == "here" and option.title == "nnU-Net 3d_fullres of Dataset007_Test"
