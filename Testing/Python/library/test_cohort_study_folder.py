# SPDX-License-Identifier: Apache-2.0
"""A study folder appears whole or not at all, and only what is ours is replaced."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes.refusal import refusal

from ProstateXferLib.cohort.options import StudyInputs, StudyOptions
from ProstateXferLib.cohort.result import STUDY_FILE, StudyResult
from ProstateXferLib.cohort.study_folder import check_study_folder, new_study_folder
from ProstateXferLib.errors import ProstateXferError


def study(folder, case="new"):
    return StudyResult(folder=folder, case=case, inputs=StudyInputs(), options=StudyOptions())


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def former(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    study(folder, "former").write()
    (folder / "uncertainty.nii.gz").write_text("former", encoding="utf-8")
    (folder / "report.html").write_text("former", encoding="utf-8")
    return folder


def write_new(folder):
    with new_study_folder(folder) as temporary:
        (temporary / "segmentation.seg.nrrd").write_text("new", encoding="utf-8")
        study(temporary).write()


def test_a_new_folder_appears_with_those_above_it(tmp_path):
    write_new(tmp_path / "a" / "b" / "study é")
    assert everything(tmp_path / "a" / "b") == ["study é", "study é/segmentation.seg.nrrd", f"study é/{STUDY_FILE}"]


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path):
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / ".DS_Store").touch()
    inode = folder.stat().st_ino
    write_new(folder)
    assert folder.stat().st_ino == inode
    assert everything(tmp_path) == [
        "mounted",
        "mounted/.DS_Store",
        "mounted/segmentation.seg.nrrd",
        f"mounted/{STUDY_FILE}",
    ]


def test_an_earlier_study_is_replaced_as_a_whole(former):
    write_new(former)
    assert everything(former.parent) == ["study", "study/segmentation.seg.nrrd", f"study/{STUDY_FILE}"]
    assert StudyResult.read(former).case == "new"


@pytest.mark.parametrize("failure", [ProstateXferError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
def test_a_failure_leaves_the_earlier_study_and_nothing_else(former, failure):
    before = everything(former.parent)
    expected = ProstateXferError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected), new_study_folder(former) as temporary:
        (temporary / "half").write_text("half", encoding="utf-8")
        raise failure
    assert everything(former.parent) == before
    assert StudyResult.read(former).case == "former"


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_rename_that_fails_leaves_the_earlier_study(former, monkeypatch, fails_at):
    before, calls, rename = everything(former.parent), [], Path.rename

    def failing(self, target):
        calls.append(self)
        if len(calls) == fails_at:
            raise OSError(errno.EACCES, "in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ProstateXferError, match=r"could not be written to .* \(in use\): check free space and rights"):
        write_new(former)
    assert everything(former.parent) == before
    assert StudyResult.read(former).case == "former"


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "thesis.docx").touch()
    assert "holds files that are no study (thesis.docx): choose an empty or a new folder" in refusal(
        check_study_folder, tmp_path
    )
    with pytest.raises(ProstateXferError):
        write_new(tmp_path)
    assert everything(tmp_path) == ["thesis.docx"]


def test_a_foreign_file_beside_a_study_is_not_lost(former):
    (former / "notes.txt").touch()
    assert "holds 'notes.txt' beside the study" in refusal(check_study_folder, former)


def test_a_study_json_of_another_kind_is_no_study(tmp_path):
    (tmp_path / STUDY_FILE).write_text('{"format": "mine"}', encoding="utf-8")
    assert "is not of the format" in refusal(check_study_folder, tmp_path)


def test_a_study_that_a_person_has_edited_is_not_replaced(former):
    replace(StudyResult.read(former), edited=True).write()
    assert "was edited by a person and is not replaced" in refusal(check_study_folder, former)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").touch()
    assert "is a file, and a folder is needed" in refusal(check_study_folder, tmp_path / "x")
    assert "Cannot make the folder" in refusal(check_study_folder, tmp_path / "x" / "study")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert "is not writable" in refusal(check_study_folder, tmp_path / "study")
    finally:
        tmp_path.chmod(0o700)
