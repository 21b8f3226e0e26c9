# SPDX-License-Identifier: Apache-2.0
"""`models_for`: what the panel's lists show for a task."""

import dataclasses
import json
import os

import pytest
from model_files.registry import register
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints import ensemble_members
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cohort import model_choice
from ProstateXferLib.cohort.model_choice import card_of, models_for
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.ensemble import make_ensemble


@pytest.fixture
def folder(shipped_folder, tmp_path):
    """The user's folder, with no model anywhere else."""
    folder = tmp_path / "my models"
    folder.mkdir()
    return folder


@pytest.fixture
def put(folder, threshold_state, segmentation_card, synthesis_card, pointwise_state):
    """put(name, *heads) writes a segmentation model, put(name, sequence="T2w") a synthesis model."""

    def put(name, *heads, sequence=None, folder=folder):
        if sequence is None:
            card, state = segmentation_card(*heads, name=name), threshold_state(**dict.fromkeys(heads, (0.3,)))
        else:
            card, state = synthesis_card(sequence, name=name), pointwise_state()
        return write_checkpoint(folder / f"{name}.safetensors", card, state)

    return put


def names(task, folder):
    return [option.name for option in models_for(task, folder)]


def test_each_task_lists_the_models_that_can_do_it(folder, put):
    put("gland", "gland")
    put("both", "gland", "dil")
    put("mr", sequence="T2w")
    put("cbct", sequence="CBCT")
    assert names(Task.PROSTATE, folder) == ["both", "gland"]
    assert names(Task.DIL, folder) == ["both"]
    assert names(Task.CT_FROM_MR, folder) == ["mr"]
    assert names(Task.CT_FROM_CBCT, folder) == ["cbct"]
    assert models_for(Task.DIL) == []  # the folder is searched only where it is given


def test_a_file_that_no_registry_lists_brings_its_card(folder, put):
    path = put("both", "gland", "dil")
    (option,) = models_for(Task.DIL, folder)
    assert (option.state, option.path, option.sha256, option.reason) == ("here", path, None, None)
    assert option.card == card_of("both", folder)
    assert [structure.name for structure in option.card.structures] == ["Prostate", "DIL"]


def test_a_registered_model_brings_the_registrys_words(folder, put):
    path = put("both", "gland", "dil")
    register(folder, name="known", title="a title", file=path.name, sha256="ab")
    (option,) = models_for(Task.DIL, folder)
    assert (option.name, option.title, option.sha256, option.path) == ("known", "a title", "ab", path)


@pytest.mark.parametrize(
    ("entry", "state", "part"),
    [
        ({"file": "a.safetensors", "sha256": "0", "url": "https://x"}, "to fetch", "prostatexfer models --fetch mine"),
        ({"obtain": "ask the authors"}, "to import", "ask the authors"),
        ({"file": "a.safetensors", "sha256": "0"}, "to import", "put its file into a models folder"),
    ],
)
def test_a_model_that_is_not_here_stands_last_with_what_to_do(folder, put, entry, state, part):
    put("here", "gland")
    register(folder, name="mine", **entry)
    first, last = models_for(Task.PROSTATE, folder)
    assert (first.name, first.reason) == ("here", None)
    assert (last.name, last.state, last.card) == ("mine", state, None)
    assert part in last.reason


def test_a_damaged_file_is_listed_with_the_reason_and_a_foreign_one_is_not(folder, put):
    path = put("cut", "gland")
    path.write_bytes(path.read_bytes()[:-9])
    from safetensors.torch import save_file
    from torch import ones

    save_file({"a": ones(1)}, folder / "foreign.safetensors")
    (option,) = models_for(Task.PROSTATE, folder)
    assert (option.name, option.state) == ("cut", "damaged")
    assert "cut off" in option.reason


def test_a_file_with_the_name_of_another_model_is_named_by_its_path(folder, put):
    path = put("dgcf", sequence="T2w")
    register(folder, name="dgcf", task="synthesis", file="other.safetensors", sha256="0" * 64, url="https://x.org/o")
    assert [(o.name, o.state) for o in models_for(Task.CT_FROM_MR, folder)] == [
        (str(path), "here"),
        ("dgcf", "to fetch"),
    ]


def test_weights_that_were_imported_under_a_registered_name_are_that_model(folder, put):
    register(folder, name="dgcf", task="synthesis", obtain="import your own")
    assert [(o.name, o.state) for o in models_for(Task.CT_FROM_MR, folder)] == [("dgcf", "to import")]
    path = put("dgcf", sequence="T2w")
    assert [(o.name, o.state, o.path) for o in models_for(Task.CT_FROM_MR, folder)] == [("dgcf", "here", path)]
    assert card_of("dgcf", folder).task == "synthesis"


def test_the_given_folder_goes_before_the_others(folder, put, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(other))
    put("gland", "gland", folder=other)
    mine = put("gland", "gland", "dil")
    assert [option.path for option in models_for(Task.PROSTATE, folder)] == [mine]
    assert len(card_of("gland", folder).structures) == 2
    assert len(card_of("gland").structures) == 1


def test_a_card_is_read_again_only_when_its_file_has_changed(folder, put, monkeypatch):
    put("gland", "gland")
    models_for(Task.PROSTATE, folder)
    with monkeypatch.context() as patch:
        patch.setattr(model_choice, "read_card", lambda path: pytest.fail("read twice"))
        assert names(Task.PROSTATE, folder) == ["gland"]
    path = put("gland", "gland", "dil")
    os.utime(path, ns=(1, 1))
    assert names(Task.DIL, folder) == ["gland"]


def test_an_encoder_can_do_no_task(folder):
    import torch

    write_checkpoint(folder / "e.safetensors", ModelCard("e", "encoder", "dinov3"), {"a": torch.ones(1)})
    assert [names(task, folder) for task in Task] == [[], [], [], []]
    with pytest.raises(ProstateXferError, match="There is no model named 'x'"):
        card_of("x", folder)


def test_the_shipped_models_do_all_tasks():
    chosen = {task: next(option for option in models_for(task)) for task in Task}
    assert {task: option.name for task, option in chosen.items()} == {
        Task.PROSTATE: "prostate-dil-small",
        Task.DIL: "prostate-dil-small",
        Task.CT_FROM_MR: "dgcf-mr-to-ct-small",
        Task.CT_FROM_CBCT: "dgcf-cbct-to-ct-small",
    }
    assert all(option.state == "here" and option.card and option.sha256 for option in chosen.values())


NNUNET = "nnUNet_results/Dataset007_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture
def nnunet(folder):
    """nnunet(place, **settings) writes an nnU-Net folder into the user's folder."""
    return lambda place=NNUNET, *arguments, **settings: write_folder(folder / place, *arguments, **settings)


def test_an_nnunet_folder_is_listed_like_a_file(folder, nnunet):
    path = nnunet(folds=("0", "1"))
    for task in (Task.PROSTATE, Task.DIL):
        (option,) = models_for(task, folder)
        assert (option.name, option.state, option.path, option.reason) == (NNUNET, "here", path, None)
        assert option.title == "nnU-Net 3d_fullres of Dataset007_Test"
    assert card_of(NNUNET, folder).preprocessing.nnunet.folds == ("0", "1")
    assert names(Task.CT_FROM_MR, folder) == []


def test_meddinov3_s_own_nnunet_folder_is_listed_too(folder, nnunet, random_network):
    weights = random_network("mr_dinov3").state_dict()
    nnunet("meddinov3", configuration(2, patch_size=[32, 48]), weights=weights, name="2d_896")
    (option,) = models_for(Task.DIL, folder)
    assert (option.name, option.state, option.card.architecture) == ("meddinov3", "here", "mr_dinov3")


def test_an_nnunet_folder_that_finds_something_else_is_listed_with_the_reason(folder, nnunet):
    nnunet(dataset={"labels": {"background": 0, "prostate": 1, "bladder": 2}})
    assert [(o.state, o.reason) for o in models_for(Task.PROSTATE, folder)] == [("here", None)]
    (option,) = models_for(Task.DIL, folder)
    assert option.state == "here" and "finds no DIL (Prostate, " in option.reason


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda path: (path / "dataset.json").unlink(), "dataset.json is missing"),
        (lambda path: (path / "plans.json").write_text("{"), "plans.json' cannot be read"),
        (lambda path: (path / "fold_0" / "checkpoint_final.pth").write_bytes(b"cut"), "is cut off"),
        (lambda path: (path / "fold_0" / "checkpoint_final.pth").unlink(), "fold 0 has no checkpoint"),
    ],
)
def test_a_damaged_nnunet_folder_is_listed_with_the_reason(folder, nnunet, harm, part):
    harm(nnunet())
    (option,) = models_for(Task.PROSTATE, folder)
    assert (option.name, option.state) == (NNUNET, "damaged")
    assert part in option.reason and "\n" not in option.reason


def test_an_nnunet_that_would_not_be_reproduced_is_listed_with_the_reason(folder, nnunet):
    nnunet(NNUNET, configuration(previous_stage="3d_lowres"))
    (option,) = models_for(Task.PROSTATE, folder)
    assert "(a cascade)" in option.reason


def test_an_nnunet_folder_is_read_again_only_when_one_of_its_files_has_changed(folder, nnunet, monkeypatch):
    path = nnunet(folds=("0", "1"))
    assert card_of(NNUNET, folder).preprocessing.nnunet.to_ras is False
    with monkeypatch.context() as patch:
        patch.setattr(model_choice, "nnunet_card", lambda path: pytest.fail("read twice"))
        assert names(Task.PROSTATE, folder) == [NNUNET]
    plans = json.loads((path / "plans.json").read_text())
    (path / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": "SimpleITKIOWithReorient"}))
    assert card_of(NNUNET, folder).preprocessing.nnunet.to_ras is True
    (path / "fold_1" / "checkpoint_final.pth").write_bytes(b"cut")
    with pytest.raises(ProstateXferError, match="cut off"):
        card_of(NNUNET, folder)


@pytest.fixture
def ensemble(folder, put, nnunet):
    """An ensemble of a file and of an nnU-Net folder, all in the user's folder; the ensemble's path."""
    file = put("bright", "gland")
    path = nnunet("nnunet", dataset={"labels": {"background": 0, "prostate": 1}}, weights=random_weights(classes=2))
    return make_ensemble(folder / "both.safetensors", [file, path], (0.25, 0.75))


def test_an_ensemble_is_listed_like_a_file(folder, ensemble):
    option = next(option for option in models_for(Task.PROSTATE, folder) if option.name == "both")
    assert (option.state, option.reason, option.path) == ("here", None, ensemble.path)
    assert "both" not in names(Task.DIL, folder)


@pytest.mark.parametrize("gone", ["bright.safetensors", "nnunet"])
def test_an_ensemble_that_lacks_a_member_is_listed_with_its_name(folder, ensemble, gone):
    (folder / gone).rename(folder.parent / gone)
    option = models_for(Task.PROSTATE, folder)[-1]
    assert (option.name, option.state) == ("both", "incomplete")
    member = {"nnunet": "dataset007-test-3d-fullres"}.get(gone, "bright")
    assert f"The member '{member}'" in option.reason and "is not on this machine" in option.reason
    with pytest.raises(ProstateXferError, match="is not on this machine"):
        card_of("both", folder)
    (folder.parent / gone).rename(folder / f"renamed {gone}")  # found by what it is, not by its name
    assert card_of("both", folder) == ensemble.card


def test_members_are_hashed_once(folder, ensemble, monkeypatch):
    models_for(Task.PROSTATE, folder)
    for name in ("file_sha256", "nnunet_sha256"):
        monkeypatch.setattr(ensemble_members, name, lambda path: pytest.fail("hashed twice"))
    for task in Task:
        models_for(task, folder)
    assert card_of("both", folder) == ensemble.card


def test_a_malformed_ensemble_is_damaged(folder, ensemble):
    arguments = {**ensemble.card.arguments, "average": "median"}
    write_checkpoint(folder / "odd.safetensors", dataclasses.replace(ensemble.card, arguments=arguments), {})
    option = next(option for option in models_for(Task.PROSTATE, folder) if option.name == "odd")
    assert option.state == "damaged" and "not by 'median'" in option.reason
