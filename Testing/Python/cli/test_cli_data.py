# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer data layouts|check|split` on small trees."""

import json

import pytest

from dataset_trees import write_tree
from ProstateXferLib.cli.main import main
from ProstateXferLib.training.datasets.registry import LAYOUTS


def told(*words, capsys, code=0):
    """The result that --json gives."""
    assert main(["data", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_list_names_every_layout(capsys):
    assert main(["data", "layouts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(LAYOUTS)
    assert {entry["name"] for entry in told("layouts", capsys=capsys)["layouts"]} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_shows_its_tree_options_and_where_to_get_it(name, capsys):
    assert main(["data", "layouts", name]) == 0
    shown = capsys.readouterr().out
    layout = told("layouts", name, capsys=capsys)["layout"]
    assert layout["description"] in shown
    assert all(option in layout["description"] for option in layout["options"])
    assert ("FOLDER/" in shown) == (name != "phantoms")


def test_an_unknown_layout_is_answered_with_the_list(capsys):
    assert main(["data", "layouts", "brats"]) == 1
    assert "'brats' is none of cases, csv" in capsys.readouterr().err


def test_a_sound_data_set_is_counted(tmp_path, capsys):
    folder = write_tree("picai", tmp_path / "set")
    result = told("check", "picai", folder, "--option", "site=RUMC", "--option", 'sequences=["T2w"]', capsys=capsys)
    assert (result["cases"], result["patients"], result["problems"]) == (2, 1, [])
    assert result["contents"] == {"T2w": 2, "Prostate": 2, "DIL": 2}


def test_bad_cases_are_told_and_give_their_exit_code(tmp_path, capsys):
    folder = write_tree("cases", tmp_path / "set")
    (folder / "b" / "t2w.nii.gz").write_bytes(b"nothing")
    assert main(["data", "check", "cases", str(folder)]) == 3
    shown = capsys.readouterr().out
    assert "Not usable as they are: 1 of 3 cases." in shown
    assert any(line.split()[:2] == ["error", "b"] for line in shown.splitlines())
    assert told("check", "cases", folder, capsys=capsys, code=3)["bad_cases"] == ["b"]
    assert told("check", "cases", folder, "--files-only", capsys=capsys)["cases"] == 3


def test_the_folds_are_written_as_nnunet_reads_them(tmp_path, capsys):
    folder = write_tree("nnunet", tmp_path / "set")
    result = told(
        *("split", "nnunet", folder, "--option", r"patient=^(pat\d)", "--folds", 2, "-o", tmp_path / "splits.json"),
        capsys=capsys,
    )
    splits = json.loads((tmp_path / "splits.json").read_text(encoding="utf-8"))
    assert splits == result["folds"]
    for fold in splits:
        assert sorted(fold["train"] + fold["val"]) == [*(f"pat{i}_visit0" for i in range(4)), "pat3_visit1"]
        assert {name[:4] for name in fold["train"]}.isdisjoint(name[:4] for name in fold["val"])


def test_cases_held_out_are_in_no_fold(tmp_path, capsys):
    folder = write_tree("nnunet", tmp_path / "set")
    words = ("split", "nnunet", folder, "--folds", 2, "--test-share", 0.2, "-o", tmp_path / "splits.json")
    result = told(*words, capsys=capsys)
    assert len(result["test"]) == 1
    assert not any(result["test"][0] in fold["train"] + fold["val"] for fold in result["folds"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rule", "stratified"], "--rule stratified and --stratify"),
        (["--option", "site"], "'site' is not KEY=VALUE"),
    ],
)
def test_wrong_use_is_told(tmp_path, capsys, words, sentence):
    folder = write_tree("cases", tmp_path / "set")
    assert main(["data", "split", "cases", str(folder), "-o", str(tmp_path / "s.json"), *words]) == 2
    assert sentence in capsys.readouterr().err
