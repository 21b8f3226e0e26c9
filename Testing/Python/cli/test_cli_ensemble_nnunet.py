# SPDX-License-Identifier: Apache-2.0
"""From nnU-Net results folders to a chosen ensemble: each case by the fold that held it out."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_results.cross_validation import in_turn, write_raw, write_trained

from ProstateXferLib.checkpoints.ensemble_card import members_of
from ProstateXferLib.checkpoints.ensemble_members import find_members
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.images.io import read_image
from ProstateXferLib.pipelines.opinion_pool import SMALLEST_PROBABILITY
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.studies.ensemble_selection.box import Box
from ProstateXferLib.studies.ensemble_selection.opened_plan import open_plan
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions
from ProstateXferLib.studies.ensemble_selection.plan_file import read_plan
from ProstateXferLib.studies.ensemble_selection.predictions import predict_all

NAMES = ["3d_fullres", "3d_lowres"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight cases, and two nnU-Nets of five folds."""
    folder = tmp_path_factory.mktemp("nnunet")
    write_raw(folder / "nnUNet_raw")
    for number, name in enumerate(NAMES):
        write_trained(folder / "nnUNet_results", name, seed=20 * number)
    return folder


def trained(root, name):
    return root / "nnUNet_results" / "Dataset007_Test" / f"nnUNetTrainer__nnUNetPlans__{name}"


@pytest.fixture(scope="module")
def plan(root):
    words = ["ensemble", "plan", *(str(trained(root, name)) for name in NAMES), "-o", str(root / "plan")]
    assert main([*words, "--nnunet-raw", str(root / "nnUNet_raw" / "Dataset007_Test")]) == 0
    return root / "plan"


@pytest.fixture(scope="module")
def chosen(root, plan):
    pytest.importorskip("matplotlib")
    words = ["ensemble", "select", str(plan), "-o", str(root / "chosen"), "--device", "cpu"]
    assert main([*words, "--folds", "2", "--rounds", "2", "--work", str(root / "work")]) == 0
    return root / "chosen"


def test_the_plan_names_for_every_case_the_fold_that_held_it_out(root, plan):
    read = read_plan(plan)
    owners = {case: fold for fold, cases in in_turn().items() for case in cases}
    assert [case.name for case in read.cases] == sorted(owners)
    for candidate, name in zip(read.candidates, NAMES, strict=True):
        assert candidate.name == f"nnUNetTrainer__nnUNetPlans__{name}"
        models = {case: model.resolve() for case, model in candidate.models.items()}
        assert models == {case: trained(root, name) / f"fold_{fold}" for case, fold in owners.items()}


def test_every_kept_prediction_is_that_of_its_own_fold_run_by_hand(root, plan, chosen):
    opened = open_plan(read_plan(plan))
    kept = predict_all(opened, SelectionOptions(device="cpu", folds=2, rounds=2), root / "work", SilentProgress())
    assert (kept.predicted, kept.found) == (0, 16)
    means = set()
    for name in NAMES:
        for fold, cases in in_turn().items():
            segmenter = Segmenter(trained(root, name) / f"fold_{fold}", device="cpu")
            for case in cases:
                image = read_image(root / "nnUNet_raw" / "Dataset007_Test" / "imagesTr" / f"{case}_0000.nii.gz")
                whole = sitk.GetArrayFromImage(segmenter.predict(image).probabilities["Prostate"])
                file = kept.files[case][f"nnUNetTrainer__nnUNetPlans__{name}"]
                found = file.read(["Prostate"], Box((0, 0, 0), whole.shape))["Prostate"]
                assert np.array_equal(found[whole >= SMALLEST_PROBABILITY], whole[whole >= SMALLEST_PROBABILITY])
                assert found[whole < SMALLEST_PROBABILITY].max(initial=0) < SMALLEST_PROBABILITY
                means.add(round(float(whole.mean()), 7))
    assert len(means) == 16  # the folds are different networks, so that another one would have been noticed


def test_the_chosen_ensemble_has_folds_as_members_and_runs_without_the_results_folder(root, chosen, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(chosen, moved)
    made = load_checkpoint(moved / "ensemble.safetensors")
    names = {one.card.name for one in find_members(made.card, made.path)}
    assert names == {member.name for member in members_of(made.card)}
    assert all(name.rpartition("-")[0].endswith("-fold") for name in names) and len(names) in (5, 10)
    assert all(one.path.is_relative_to(moved) for one in find_members(made.card, made.path))
    image = root / "nnUNet_raw" / "Dataset007_Test" / "imagesTr" / "case0_0000.nii.gz"
    words = ["segment", str(image), "-m", str(made.path), "-o", str(tmp_path / "labels.nii.gz"), "--device", "cpu"]
    assert main(words) == 0


def test_record_and_report_say_that_nothing_could_check_the_folds(chosen):
    warnings = json.loads((chosen / "selection.json").read_text(encoding="utf-8"))["warnings"]
    told = [warning for warning in warnings if warning.startswith("No record tells which cases the nnU-Net models")]
    assert len(told) == 2
    assert "nothing here could check it" in (chosen / "report.html").read_text(encoding="utf-8")


def test_folders_are_found_by_nnunet_s_own_variables_and_missing_folds_are_told(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(root / "nnUNet_raw"))
    held_out = {fold: cases for fold, cases in in_turn().items() if fold != "2"}
    folders = [write_trained(tmp_path / "results", name, held_out=held_out) for name in NAMES]
    words = ["ensemble", "plan", *(f"{arm}={path}" for arm, path in zip("ab", folders, strict=True))]
    assert main([*words, "-o", str(tmp_path / "plan")]) == 0
    told = capsys.readouterr()
    assert "a: 4 model(s)\nb: 4 model(s)\n6 cases, each by the fold that did not see it (of nnU-Nets by" in told.out
    assert "'a' has fold_0, fold_1, fold_3, fold_4, and fold_2 is missing: 2 of the 8 cases" in told.err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["{fold}"], 1, "is one fold: a plan takes all folds of an nnU-Net"),
        (["{whole}"], 1, "Nothing tells where the images"),
        (["nowhere"], 2, "There is no folder 'nowhere'"),
        (["{plan}", "--nnunet-splits", "splits_final.json"], 2, "are of nnU-Net folders, and none was given"),
        (["{whole}", "--nnunet-raw", "{raw}"], 1, "The plan has 1 candidate(s)"),
    ],
)
def test_wrong_use_is_told(root, plan, tmp_path, monkeypatch, capsys, words, code, sentence):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    whole = trained(root, NAMES[0])
    places = {"whole": whole, "fold": whole / "fold_2", "plan": plan, "raw": root / "nnUNet_raw" / "Dataset007_Test"}
    assert main(["ensemble", "plan", *(word.format(**places) for word in words), "-o", str(tmp_path / "p")]) == code
    assert sentence in capsys.readouterr().err


def test_folds_are_members_by_hand_and_segment_alone(root, tmp_path, capsys):
    folds = [str(trained(root, NAMES[0]) / f"fold_{k}") for k in (0, 3)]
    made = tmp_path / "two.safetensors"
    assert main(["ensemble", f"{folds[0]}=3", folds[1], "-o", str(made), "--copy-members"]) == 0
    assert "0.7500  dataset007-test-3d-fullres-fold-0" in capsys.readouterr().out
    image = root / "nnUNet_raw" / "Dataset007_Test" / "imagesTr" / "case1_0000.nii.gz"
    for number, model in enumerate((folds[0], str(made))):
        target = tmp_path / f"{number}.nii.gz"
        assert main(["segment", str(image), "-m", model, "-o", str(target), "--device", "cpu"]) == 0
    assert main(["models", folds[0]]) == 0
    assert "nnU-Net 3d_fullres of Dataset007_Test, fold 0" in capsys.readouterr().out
