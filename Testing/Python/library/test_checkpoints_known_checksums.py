# SPDX-License-Identifier: Apache-2.0
"""Checksums of large files outlive the run that computed them, and no change of a file."""

import os
from pathlib import Path

import pytest
import torch

from ProstateXferLib.checkpoints import ensemble_members
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.ensemble_card import EnsembleMember
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.file_states import file_states
from ProstateXferLib.checkpoints.known_checksums import known_checksum
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256

LARGE = 30_000_000


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def large(tmp_path):
    """A sparse file."""
    path = tmp_path / "large.safetensors"
    with path.open("wb") as stream:
        stream.truncate(LARGE)
    return path


def never():
    pytest.fail("computed again")


def test_a_checksum_is_kept_from_one_run_to_the_next(home, large):
    sha256 = file_sha256(large)
    assert known_checksum(file_states(large), lambda: sha256) == sha256
    assert known_checksum(file_states(large), never) == sha256
    kept = (home / ".prostatexfer" / "checksums.json").read_text(encoding="utf-8")
    assert sha256 in kept and str(large) not in kept


def test_a_changed_file_is_hashed_again_though_its_size_and_time_are_the_same(home, large):
    known_checksum(file_states(large), lambda: "a" * 64)
    before = large.stat()
    with large.open("r+b") as stream:
        stream.write(b"x")
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert large.stat().st_mtime_ns == before.st_mtime_ns
    if os.name == "posix":
        assert known_checksum(file_states(large), lambda: "b" * 64) == "b" * 64


def test_small_files_are_not_kept(home, tmp_path):
    (tmp_path / "small").write_bytes(b"1")
    known_checksum(file_states(tmp_path / "small"), lambda: "a" * 64)
    assert not home.exists()


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 5}', '{"a": "no sum"}', b"\xff"])
def test_a_damaged_memory_is_forgotten(home, large, content):
    file = home / ".prostatexfer" / "checksums.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert known_checksum(file_states(large), lambda: "a" * 64) == "a" * 64
    assert known_checksum(file_states(large), never) == "a" * 64


def test_where_nothing_can_be_kept_nothing_fails(home, large):
    home.write_text("a file where the folder should be", encoding="utf-8")
    assert known_checksum(file_states(large), lambda: "a" * 64) == "a" * 64
    assert known_checksum(file_states(large), lambda: "b" * 64) == "b" * 64


def test_who_runs_a_member_trusts_no_memory(tmp_path, monkeypatch):
    """A wrong memory lists an ensemble as whole, and does not run it."""
    write_checkpoint(tmp_path / "m.safetensors", ModelCard("m", "encoder", "dinov3"), {"a": torch.ones(1)})
    member = EnsembleMember("m", "a" * 64, 1.0, "m.safetensors")
    monkeypatch.setattr(ensemble_members, "content_sha256", lambda path: member.sha256)
    monkeypatch.setattr(ensemble_members, "members_of", lambda card: (member,))
    card = ModelCard("e", "encoder", "dinov3")
    assert ensemble_members.find_member_paths(card, tmp_path / "e.safetensors") == (tmp_path / "m.safetensors",)
    with pytest.raises(ProstateXferError, match="'m' of the ensemble 'e' is not the file it was chosen with"):
        ensemble_members.find_members(card, tmp_path / "e.safetensors")
