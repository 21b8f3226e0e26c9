# SPDX-License-Identifier: Apache-2.0
"""Models by name: where they are looked for, and what is said of those that are not here."""

import os
from pathlib import Path

import pytest
from model_files.registry import register
from outcomes.refusal import refusal

from ProstateXferLib.checkpoints import registry
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.registry import known_models, models_folders, resolve, user_models_folder


@pytest.fixture
def offline(tmp_path, monkeypatch, shipped_folder):
    folder = tmp_path / "offline"
    folder.mkdir()
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(folder))
    return folder


def put(folder, name="gland"):
    import torch

    return write_checkpoint(folder / f"{name}.safetensors", ModelCard(name, "encoder", "dinov3"), {"a": torch.ones(1)})


def test_a_registered_name_is_its_file(shipped_folder):
    path = put(shipped_folder)
    register(shipped_folder, name="gland", file=path.name, sha256="0")
    assert resolve("gland") == path
    assert load_checkpoint("gland").card.name == "gland"
    assert [model.path() for model in known_models()] == [path]


def test_a_path_goes_before_a_name(shipped_folder, tmp_path, monkeypatch):
    register(shipped_folder, name="gland", file=put(shipped_folder).name, sha256="0")
    own = put(tmp_path, "own")
    assert resolve(own) == own and resolve(str(own)) == own
    monkeypatch.chdir(tmp_path)
    own.rename("gland")
    assert resolve("gland") == Path("gland")


def test_a_name_may_hold_dots(shipped_folder):
    path = put(shipped_folder, "gland-v1.2")
    register(shipped_folder, name="gland-v1.2", file=path.name, sha256="0")
    assert resolve("gland-v1.2") == path


def test_the_offline_folder_goes_before_the_shipped_one(shipped_folder, offline):
    register(
        shipped_folder, {"name": "gland", "file": put(shipped_folder).name, "sha256": "0"}, {"name": "only-shipped"}
    )
    register(offline, name="gland", title="the offline one", file=put(offline).name, sha256="0")
    assert resolve("gland") == offline / "gland.safetensors"
    assert {model.name: model.title for model in known_models()} == {
        "gland": "the offline one",
        "only-shipped": "a test model",
    }


def test_several_offline_folders_and_the_users_own(shipped_folder, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("PROSTATEXFER_MODELS", os.pathsep.join([str(first), str(second)]))
    home = tmp_path / "home" / ".prostatexfer" / "models"
    assert models_folders() == [first, second, home, shipped_folder]
    assert user_models_folder() == first
    monkeypatch.delenv("PROSTATEXFER_MODELS")
    assert user_models_folder() == home
    assert models_folders() == [home, shipped_folder]


def test_a_file_that_lies_in_a_models_folder_needs_no_entry(shipped_folder, offline):
    path = put(offline, "mine")
    assert resolve("mine") == path


def test_an_unknown_name_is_answered_with_the_known_ones(shipped_folder):
    register(shipped_folder, {"name": "gland", "file": "g.safetensors", "sha256": "0"}, {"name": "dinov3"})
    assert refusal(resolve, "glans") == "There is no model named 'glans': choose one of gland, dinov3 or give a file."


@pytest.mark.parametrize("path", ["weights.safetensors", "folder/weights", "/nowhere/x.pth"])
def test_a_path_to_nothing_is_called_a_path(shipped_folder, path):
    assert f"There is no checkpoint '{path}': check the path" in refusal(resolve, path)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            {"file": "a.safetensors", "sha256": "0", "url": "https://x.org/a"},
            "fetch it: prostatexfer models --fetch gland",
        ),
        (
            {"obtain": "ask Meta, then: prostatexfer import dinov3.pth"},
            "ask Meta, then: prostatexfer import dinov3.pth",
        ),
        ({"file": "a.safetensors", "sha256": "0"}, "put its file into a models folder"),
    ],
)
def test_a_model_that_is_not_here_says_how_to_get_it(shipped_folder, entry, told):
    register(shipped_folder, name="gland", **entry)
    assert refusal(resolve, "gland") == f"The model 'gland' is not on this machine; {told}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        ('{"models": 5}', "malformed"),
        ('{"models": ["gland"]}', "malformed"),
        ('{"models": [{"name": "gland"}]}', "malformed"),
        ('{"models": [{"name": "a", "task": "b", "title": "c", "licence": "d", "colour": "e"}]}', "colour"),
        ('{"models": [{"name": "a", "task": "b", "title": "c", "licence": "d", "file": "e"}]}', "no sha256 for 'a'"),
        (
            '{"models": [{"name": "a", "task": "b", "title": "c", "licence": "d", "file": "../e", "sha256": "f"}]}',
            "a file name without folders",
        ),
        (
            '{"models": [{"name": "a", "task": "b", "title": "c", "licence": "d", "file": 5, "sha256": "f"}]}',
            "malformed",
        ),
    ],
)
def test_a_malformed_registry_is_named_with_its_fault(shipped_folder, content, told):
    (shipped_folder / registry.REGISTRY_FILE).write_text(content, encoding="utf-8")
    sentence = refusal(known_models)
    assert told in sentence and str(shipped_folder / registry.REGISTRY_FILE) in sentence
    assert refusal(resolve, "gland") == sentence


def test_a_registry_that_is_not_text_is_malformed(shipped_folder):
    (shipped_folder / registry.REGISTRY_FILE).write_bytes(b"\xff\xfe\x00")
    assert "malformed" in refusal(known_models)


def test_without_a_registry_nothing_is_known(shipped_folder):
    assert known_models() == []
    assert "choose one of (none) or give a file" in refusal(resolve, "gland")
