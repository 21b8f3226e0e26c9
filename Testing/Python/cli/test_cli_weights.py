# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer weights export | verify | resume-from`, and commands of two words."""

import json

import pytest

from ProstateXferLib.checkpoints.file_format import file_sha256, write_checkpoint
from ProstateXferLib.cli import main as front
from ProstateXferLib.cli.main import main, with_command_joined
from ProstateXferLib.training.exchange.signature import site_id


@pytest.fixture
def checkpoint(tmp_path, segmentation_card, random_state):
    return write_checkpoint(tmp_path / "a.safetensors", segmentation_card("gland"), random_state(gland=2))


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "consortium.key"
    path.write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    return path


def weights(*words):
    return main(["weights", *map(str, words)])


def result_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_weights_go_from_one_centre_to_the_next(checkpoint, key, tmp_path, capsys):
    package, arrived = tmp_path / "a.pxweights", tmp_path / "arrived.safetensors"
    assert weights("export", checkpoint, "-o", package, "--site", "A", "--patients", 30, "--key", key) == 0
    assert "30 patients, signed" in capsys.readouterr().out
    assert weights("verify", package, "--key", key) == 0
    told = capsys.readouterr().out
    assert "training data not stated" in told
    for line in ("signature     ok      made with this key", f"site          {site_id('A', key.read_bytes().strip())}"):
        assert line in told
    assert weights("resume-from", package, "-o", arrived, "--key", key, "--json") == 0
    assert result_of(capsys)["sha256"] == file_sha256(arrived)


def test_what_is_wrong_with_a_package_is_a_table_a_sentence_and_exit_code_1(checkpoint, key, tmp_path, capsys):
    package = tmp_path / "a.pxweights"
    weights("export", checkpoint, "-o", package, "--site", "A", "--patients", 30)
    capsys.readouterr()
    assert weights("verify", package, "--key", key) == 1
    told = capsys.readouterr()
    assert "signature     FAILED" in told.out
    assert told.err.splitlines()[-1].startswith("prostatexfer: 'a.pxweights' is not signed")
    assert weights("verify", package, "--json") == 0
    event = result_of(capsys)
    assert (event["passed"], event["record"]["patients"]) == (True, 30)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("export", "a.safetensors", "-o", "a.pxweights", "--site", "A"), 2),
        (("export", "a.safetensors", "-o", "a.zip", "--site", "A", "--patients", 3), 1),
        (("resume-from", "a.safetensors", "-o", "b.safetensors"), 1),
        (("verify", "nowhere.pxweights"), 1),
        (("verify", "a.safetensors"), 1),
        (("unheard-of",), 2),
        ((), 2),
    ],
)
def test_wrong_use_writes_nothing(checkpoint, tmp_path, monkeypatch, capsys, words, code):
    monkeypatch.chdir(tmp_path)
    assert weights(*words) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith("prostatexfer: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        (["study", "--t2w", "a.nii.gz"], ["study", "--t2w", "a.nii.gz"]),
        (["study"], ["study"]),
        (["study", "in-domain-transfer", "-o", "x"], ["study in-domain-transfer", "-o", "x"]),
        (["--debug", "study", "in-domain-transfer"], ["--debug", "study in-domain-transfer"]),
        (["study", "--case", "in-domain-transfer"], ["study", "--case", "in-domain-transfer"]),
        (["study", "-o", "in-domain-transfer"], ["study", "-o", "in-domain-transfer"]),
        (["weights", "resume-from", "verify"], ["weights resume-from", "verify"]),
        (["--version"], ["--version"]),
        ([], []),
    ],
)
def test_the_longest_command_that_fits_the_leading_words_is_meant(typed, understood):
    assert with_command_joined(typed) == understood


def test_both_the_short_and_the_long_command_are_in_the_help(capsys):
    assert front.main(["--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("study  ") for line in lines)
    assert any(line.startswith("study in-domain-transfer") for line in lines)


def test_the_study_of_one_patient_is_still_what_study_alone_means(capsys):
    assert main(["study", "--help"]) == 0
    assert "--t2w" in capsys.readouterr().out
