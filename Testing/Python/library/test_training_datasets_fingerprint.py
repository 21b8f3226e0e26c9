# SPDX-License-Identifier: Apache-2.0
"""What a card says of its data: the same for the same contents, another for any change, and no id in it."""

import hashlib
import os
import shutil

import pytest

from dataset_trees import write_tree
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache import file_hashes
from ProstateXferLib.training.datasets.fingerprint import data_record, hashed_ids, sides_record
from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.datasets.splits import split_cases
from ProstateXferLib.training.recipe.schema import Source, Split


def cases_in(folder, layout="cases", **options):
    return find_cases(Source(layout, options=options), folder)


def test_the_same_files_give_the_same_digest_wherever_they_lie_and_whatever_they_are_called(tmp_path):
    first = write_tree("cases", tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    (tmp_path / "second" / "a").rename(tmp_path / "second" / "renamed")
    one, two = data_record(cases_in(first)), data_record(cases_in(tmp_path / "second"))
    assert one == two
    assert (one["cases"], one["patients"], len(one["sha256"])) == (3, 3, 64)


def test_another_label_value_another_voxel_or_a_case_less_give_another_digest(tmp_path):
    folder = write_tree("cases", tmp_path / "set")
    digests = {data_record(cases_in(folder))["sha256"]}
    digests.add(data_record(cases_in(folder, lesion_values=[1]))["sha256"])
    digests.add(data_record(cases_in(folder)[1:])["sha256"])
    shutil.copy(folder / "a" / "t2w.nii.gz", folder / "c" / "t2w.nii.gz")
    digests.add(data_record(cases_in(folder))["sha256"])
    assert len(digests) == 4


def test_voxels_beside_their_header_count(tmp_path):
    folder = write_tree("promise12", tmp_path / "set")
    before = data_record(cases_in(folder, "promise12"))
    raw = next((folder / "TrainingData_Part1").glob("Case00.*raw"))
    raw.write_bytes(raw.read_bytes()[:-1] + b"\x7f")
    assert data_record(cases_in(folder, "promise12"))["sha256"] != before["sha256"]


def test_series_and_phantoms_have_a_digest(tmp_path):
    folder = write_tree("i2cvb", tmp_path / "set")
    before = data_record(cases_in(folder, "i2cvb"))
    (folder / "Patient_383" / "T2W" / "0003.dcm").unlink()
    assert data_record(cases_in(folder, "i2cvb"))["sha256"] != before["sha256"]
    assert data_record(cases_in(tmp_path, "phantoms", count=2)) != data_record(cases_in(tmp_path, "phantoms", count=3))


def grow_old(folder):
    """Files written this very moment are hashed again, since they may still change within their time stamp."""
    for path in folder.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def test_files_are_hashed_once(tmp_path, monkeypatch):
    cases = cases_in(grow_old(write_tree("cases", tmp_path / "set")))
    expected = data_record(cases)
    assert data_record(cases, cache=tmp_path / "cache") == expected
    with monkeypatch.context() as patched:
        patched.setattr(file_hashes, "file_sha256", lambda path: pytest.fail(f"{path} was hashed again"))
        assert data_record(cases, cache=tmp_path / "cache") == expected


def test_a_file_that_has_changed_is_hashed_again(tmp_path):
    folder = grow_old(write_tree("cases", tmp_path / "set"))
    before = data_record(cases_in(folder), cache=tmp_path / "cache")
    changed = folder / "a" / "t2w.nii.gz"
    content = changed.read_bytes()
    changed.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    os.utime(changed, (1_700_000_001, 1_700_000_001))
    after = data_record(cases_in(folder), cache=tmp_path / "cache")
    assert after["sha256"] != before["sha256"]
    assert after == data_record(cases_in(folder))


def test_a_damaged_cache_costs_time_only(tmp_path):
    cases = cases_in(write_tree("cases", tmp_path / "set"))
    expected = data_record(cases, cache=tmp_path)
    (tmp_path / "file-hashes.json").write_text("{broken", encoding="utf-8")
    assert data_record(cases, cache=tmp_path) == expected


def test_a_missing_file_is_told(tmp_path):
    folder = write_tree("cases", tmp_path / "set")
    cases = cases_in(folder)
    (folder / "a" / "gland.nii.gz").unlink()
    with pytest.raises(ProstateXferError, match=r"gland\.nii\.gz' cannot be read"):
        data_record(cases)


def test_ids_travel_hashed(tmp_path):
    cases = cases_in(write_tree("cases", tmp_path / "set"))
    assert hashed_ids(cases) == sorted(hashlib.sha256(name.encode()).hexdigest()[:12] for name in "abc")
    record = sides_record(split_cases([(Source("cases"), cases)], Split(rule="fixed", validation=("b",))))
    assert record["validation"] == [hashlib.sha256(b"b").hexdigest()[:12]]
    assert (len(record["train"]), record["tuning"], record["test"]) == (2, [], [])
