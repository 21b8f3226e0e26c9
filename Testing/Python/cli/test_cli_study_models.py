# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study` and `batch` with an nnU-Net folder and with an ensemble of different networks as model."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.segmenter import Segmenter

NNUNET = "nnUNet_results/Dataset007_Test/nnUNetTrainer__nnUNetPlans__2d"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A models folder with a results tree of nnU-Net, and an ensemble of its 2-D and a 3-D network."""
    folder = tmp_path / "models"
    write_folder(
        folder / NNUNET,
        configuration(2),
        name="2d",
        folds=("0", "1"),
        weights=lambda fold: random_weights(2, seed=int(fold)),
    )
    write_folder(folder / "three", weights=random_weights(seed=5))
    make_ensemble(folder / "both.safetensors", [folder / NNUNET, folder / "three"], (0.25, 0.75), average="logit")
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(folder))
    return folder


def run(command, source, out, model, *words):
    tasks = ["--tasks", "prostate", "dil", "--device", "cpu", "--no-uncertainty"]
    return main([command, *source, "-o", str(out), "--prostate-model", model, "--dil-model", model, *tasks, *words])


def sha256s(result):
    return [model["sha256"] for model in result.provenance["segmentation"]["models"]]


@pytest.mark.parametrize("model", [NNUNET, "both"])
def test_a_study_segments_as_its_model_does_and_names_every_file_behind(folder, noise_file, tmp_path, capsys, model):
    assert run("study", ["--t2w", str(noise_file)], tmp_path / "out", model) == 0
    written, _ = read_segmentation(tmp_path / "out" / "segmentation.seg.nrrd")
    own = Segmenter(model, device="cpu").predict(sitk.ReadImage(str(noise_file)))
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(own.labels))
    assert len(np.unique(sitk.GetArrayFromImage(written))) == 3
    result, checkpoint = StudyResult.read(tmp_path / "out"), load_checkpoint(model)
    assert [entry["sha256"] for entry in result.models] == [checkpoint.sha256]
    members = [load_checkpoint(name).sha256 for name in (NNUNET, "three")] if model == "both" else []
    assert sha256s(result) == [checkpoint.sha256, *members]


@pytest.mark.parametrize("model", [NNUNET, "both"])
def test_a_batch_goes_on_until_a_file_behind_its_model_changes(folder, noise_file, tmp_path, capsys, model):
    (tmp_path / "cases.csv").write_text(f"case,t2w\na,{noise_file}\nb,{noise_file}\n", encoding="utf-8")

    def states():
        assert run("batch", [str(tmp_path / "cases.csv")], tmp_path / "out", model, "--json") in (0, 1, 3)
        events = map(json.loads, capsys.readouterr().out.splitlines())
        return [event["state"] for event in events if event["event"] == "case"]

    assert states() == ["done", "done"]
    assert states() == ["skipped", "skipped"]
    other = write_folder(
        tmp_path / "other", configuration(2), name="2d", folds=("0",), weights=random_weights(2, seed=9)
    )
    place = Path("fold_1") / "checkpoint_final.pth"
    (other / "fold_0" / "checkpoint_final.pth").replace(folder / NNUNET / place)
    if model == "both":
        assert run("batch", [str(tmp_path / "cases.csv")], tmp_path / "out", model) == 2
        assert "is not the file it was chosen with" in capsys.readouterr().err
    else:
        assert states() == ["done", "done"]


def test_a_study_without_a_member_is_refused_before_it_starts(folder, noise_file, tmp_path, capsys):
    (folder / "three").rename(tmp_path / "three")
    assert run("study", ["--t2w", str(noise_file)], tmp_path / "out", "both") != 0
    told = capsys.readouterr().err
    assert "The member 'dataset007-test-3d-fullres'" in told and "is not on this machine" in told
    assert not (tmp_path / "out").exists()
    assert run("study", ["--t2w", str(noise_file)], tmp_path / "out", "both", "--models-folder", str(tmp_path)) == 0
