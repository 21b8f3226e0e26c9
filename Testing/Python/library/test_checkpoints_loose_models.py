# SPDX-License-Identifier: Apache-2.0
"""What lies in the models folders without a registry: which of it are models, and what they are called."""

import os
from pathlib import Path

import pytest
import torch
from model_files.registry import register
from nnunet_results.folders import write_folder

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.loose_models import loose_models
from ProstateXferLib.checkpoints.registry import resolve

TRAINED = "nnUNetTrainer__nnUNetPlans__2d"
DATASET = "Dataset005_Prostate"


@pytest.fixture
def folders(shipped_folder, tmp_path, monkeypatch):
    """Two models folders, the first one before the second, and an empty shipped one."""
    places = tmp_path / "first", tmp_path / "the second"
    for place in places:
        place.mkdir()
    monkeypatch.setenv("PROSTATEXFER_MODELS", os.pathsep.join(map(str, places)))
    return places


def put(folder, name="gland"):
    return write_checkpoint(folder / f"{name}.safetensors", ModelCard(name, "encoder", "dinov3"), {"a": torch.ones(1)})


def looks_like_nnunet(folder):
    """A folder that says no more than that it is one of nnU-Net's."""
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text("{}", encoding="utf-8")
    return folder


def listed():
    return {model.name: model.path for model in loose_models()}


@pytest.mark.parametrize(
    "layout",
    [
        TRAINED,
        "any name",
        f"{DATASET}/{TRAINED}",
        f"results/{TRAINED}",
        f"nnUNet_results/{DATASET}/{TRAINED}",
    ],
)
def test_an_nnunet_folder_is_found_as_nnunet_lays_it_out_and_its_path_is_its_name(folders, layout):
    path = looks_like_nnunet(folders[1] / layout)
    assert listed() == {layout: path}
    assert resolve(layout) == path


@pytest.mark.parametrize("layout", [f"a/b/{TRAINED}", f"a/b/{DATASET}/{TRAINED}", "a/any name", f".trash/{TRAINED}"])
def test_what_lies_elsewhere_is_not_looked_for(folders, layout):
    looks_like_nnunet(folders[0] / layout)
    assert listed() == {}


def test_the_other_folders_of_nnunet_are_no_models(folders):
    """nnU-Net's own results have more in them: ensembles, cross-validation results, data sets that are prepared."""
    trained = looks_like_nnunet(folders[0] / "nnUNet_results" / DATASET / TRAINED)
    for other in (trained / "crossval_results_folds_0_1", trained.parent / "ensembles" / f"e__{TRAINED}___{TRAINED}"):
        other.mkdir(parents=True)
        (other / "plans.json").write_text("{}", encoding="utf-8")
    prepared = folders[0] / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_2d"
    prepared.mkdir(parents=True)
    assert list(listed().values()) == [trained]


def test_files_and_folders_are_listed_together_and_every_name_leads_to_its_model(folders):
    put(folders[0]), put(folders[1], "other")
    looks_like_nnunet(folders[0] / DATASET / TRAINED)
    looks_like_nnunet(folders[1] / DATASET / TRAINED)
    names = listed()
    twice = folders[1] / DATASET / TRAINED
    assert list(names) == ["gland", "other", f"{DATASET}/{TRAINED}", str(twice)]
    assert {name: resolve(name) for name in names} == names


def test_a_folder_with_the_name_of_a_file_or_a_registered_model_is_named_by_its_path(folders):
    put(folders[1], "gland")
    own = [looks_like_nnunet(folders[0] / name) for name in ("gland", "known")]
    register(folders[1], name="known", task="encoder")
    names = listed()
    assert list(names) == ["gland", *map(str, own)]
    assert {name: resolve(name) for name in names} == names


def test_a_folder_that_may_not_be_read_hides_no_other(folders, monkeypatch):
    """The superuser may read everything, so that the refusal is made up."""
    looks_like_nnunet(folders[0] / "closed")
    path, entries = looks_like_nnunet(folders[0] / TRAINED), Path.iterdir

    def iterdir(place):
        if place.name == "closed":
            raise PermissionError(13, "Permission denied")
        return entries(place)

    (folders[0] / "closed" / "plans.json").unlink()  # so that the folds must be looked for
    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert listed() == {TRAINED: path}


def test_the_name_of_a_folder_opens_it(folders, tmp_path, monkeypatch):
    folder = write_folder(folders[1] / DATASET / TRAINED)
    (tmp_path / "work" / DATASET).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    checkpoint = load_checkpoint(f"{DATASET}/{TRAINED}")
    assert checkpoint.path == folder and checkpoint.sha256 == load_checkpoint(folder).sha256
