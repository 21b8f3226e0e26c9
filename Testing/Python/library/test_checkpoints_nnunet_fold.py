# SPDX-License-Identifier: Apache-2.0
"""One fold's folder of an nnU-Net is a model: that fold alone, wherever a checkpoint is taken."""

import hashlib
import shutil

import pytest
import torch
from nnunet_results.folders import random_weights, write_folder

from ProstateXferLib.checkpoints.ensemble_card import members_of
from ProstateXferLib.checkpoints.ensemble_members import find_member_paths, find_members
from ProstateXferLib.checkpoints.file_states import file_states
from ProstateXferLib.checkpoints.import_nnunet import nnunet_card
from ProstateXferLib.checkpoints.importers import import_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.loose_models import is_model, models_in
from ProstateXferLib.checkpoints.nnunet_folder import is_nnunet_fold, is_nnunet_folder
from ProstateXferLib.checkpoints.registry import resolve
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.ensemble import make_ensemble

TRAINED = "Dataset007_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"
IMAGE = torch.linspace(-1, 1, 512).view(1, 1, 8, 8, 8) ** 3


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(folder))
    return folder


@pytest.fixture
def trained(models):
    """Folds 0, 2 and all, of seeds 10, 12 and 99."""
    return write_folder(
        models / TRAINED,
        folds=("0", "2", "all"),
        weights=lambda fold: random_weights(seed=99 if fold == "all" else 10 + int(fold)),
    )


def sha256(*files):
    each = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256(each.encode()).hexdigest()


def test_a_fold_is_that_fold_alone_and_its_card_says_so(trained, tmp_path):
    fold = load_checkpoint(trained / "fold_2")
    chosen = load_checkpoint(import_checkpoint(trained, tmp_path / "two.safetensors", fold=2))
    with torch.inference_mode():
        assert torch.equal(fold.build()(IMAGE), chosen.build()(IMAGE))
    assert fold.card.preprocessing == chosen.card.preprocessing and fold.card.preprocessing.nnunet.folds == ("2",)
    assert fold.card.name == "dataset007-test-3d-fullres-fold-2" == f"{chosen.card.name}-fold-2"
    assert fold.card.title == "nnU-Net 3d_fullres of Dataset007_Test, fold 2"
    assert fold.card.history == chosen.card.history
    assert load_checkpoint(trained).card.name == chosen.card.name  # the whole folder is called as before
    assert nnunet_card(trained / "fold_2").name == fold.card.name


def test_its_sha256_and_state_are_of_the_files_that_it_reads(trained):
    files = (trained / "plans.json", trained / "dataset.json", trained / "fold_2" / "checkpoint_final.pth")
    before = load_checkpoint(trained / "fold_2").sha256
    assert before == sha256(*files)
    assert [state[0] for state in file_states(trained / "fold_2")] == [str(file) for file in files]
    (trained / "fold_0" / "checkpoint_final.pth").unlink()
    assert load_checkpoint(trained / "fold_2").sha256 == before


def test_fold_all_is_a_checkpoint(trained):
    assert load_checkpoint(trained / "fold_all").card.preprocessing.nnunet.folds == ("all",)


def test_a_file_made_of_a_fold_holds_it_alone(trained, tmp_path):
    card = load_checkpoint(import_checkpoint(trained / "fold_0", tmp_path / "zero.safetensors")).card
    assert card.preprocessing.nnunet.folds == ("0",) and card.name.endswith("fold-0")
    again = import_checkpoint(trained / "fold_0", tmp_path / "again.safetensors", fold=[0])
    assert load_checkpoint(again).card == card
    with pytest.raises(ProstateXferError, match=r"fold_0' is fold 0 alone: choose other folds from '.*3d_fullres'"):
        import_checkpoint(trained / "fold_0", tmp_path / "never.safetensors", fold=2)


def test_lists_of_models_have_the_folder_and_not_its_folds_but_their_names_are_known(trained, models, monkeypatch):
    assert list(models_in(models)) == [trained]
    assert list(models_in(trained)) == []  # whoever chooses the results folder itself as a models folder
    assert is_model(trained / "fold_2") and not is_nnunet_folder(trained / "fold_2")
    assert resolve(f"{TRAINED}/fold_2") == trained / "fold_2"
    monkeypatch.chdir(trained)
    assert load_checkpoint("fold_2").card.name.endswith("fold-2")


def test_a_fold_without_checkpoint_or_away_from_its_plans_is_told(trained, tmp_path):
    (trained / "fold_2" / "checkpoint_final.pth").rename(trained / "fold_2" / "checkpoint_best.pth")
    with pytest.raises(
        ProstateXferError, match=r"There is no '.*checkpoint_final.pth' \(fold 2 has checkpoint_best.pth"
    ):
        load_checkpoint(trained / "fold_2")
    shutil.copytree(trained / "fold_0", tmp_path / "fold_0")
    assert not is_nnunet_fold(tmp_path / "fold_0")
    with pytest.raises(ProstateXferError, match="plans.json is missing; give the folder that has plans.json"):
        load_checkpoint(tmp_path / "fold_0")


def test_a_results_folder_that_is_called_like_a_fold_is_whole(tmp_path):
    write_folder(tmp_path / "outer", folds=())
    inner = write_folder(tmp_path / "outer" / "fold_1", folds=("0", "1"))
    assert not is_nnunet_fold(inner)
    assert load_checkpoint(inner).card.preprocessing.nnunet.folds == ("0", "1")


def test_folds_are_members_of_an_ensemble_and_found_where_the_folder_is_moved_to(trained, models):
    made = make_ensemble(models / "both.safetensors", [trained / "fold_0", trained / "fold_2"])
    members = members_of(made.card)
    assert [member.file for member in members] == [f"{TRAINED}/fold_0", f"{TRAINED}/fold_2"]
    trained.rename(models / "elsewhere")
    assert find_member_paths(made.card, made.path) == tuple(models / "elsewhere" / f"fold_{k}" for k in (0, 2))
    (models / "elsewhere" / "fold_2" / "checkpoint_final.pth").unlink()
    with pytest.raises(ProstateXferError, match="'dataset007-test-3d-fullres-fold-2' .* is not on this machine"):
        find_member_paths(made.card, made.path)


def test_an_altered_fold_is_called_so_but_not_the_same_fold_of_another_model(trained, models):
    made = make_ensemble(models / "one.safetensors", [trained / "fold_2"])
    other = write_folder(models / "Dataset008_Other" / TRAINED.rpartition("/")[2], folds=("2",))
    other.rename(models / "Dataset008_Other" / "a__b__c")
    checkpoint = trained / "fold_2" / "checkpoint_final.pth"
    checkpoint.rename(models / "kept.pth")
    with pytest.raises(ProstateXferError, match="is not on this machine"):
        find_member_paths(made.card, made.path)
    shutil.copy(trained / "fold_0" / "checkpoint_final.pth", checkpoint)
    with pytest.raises(ProstateXferError, match="is not the file it was chosen with"):
        find_member_paths(made.card, made.path)


def test_copies_of_folds_keep_name_and_content(trained, tmp_path, monkeypatch):
    monkeypatch.delenv("PROSTATEXFER_MODELS")
    far = tmp_path / "far"
    far.mkdir()
    folds = [trained / "fold_0", trained / "fold_2"]
    made = make_ensemble(far / "both.safetensors", folds, copy_members=True)
    names = [load_checkpoint(fold).card.name for fold in folds]
    shutil.rmtree(trained)
    found = find_members(made.card, made.path)
    assert [one.card.name for one in found] == names and all(one.path.is_relative_to(far) for one in found)
    assert list(models_in(far)) == [made.path]
