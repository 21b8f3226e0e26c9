# SPDX-License-Identifier: Apache-2.0
"""The commands `ensemble`, `ensemble select`: what they write, print and refuse."""

import json

import pytest
from ensemble_cases.cones import write_cone_plan, write_model

from ProstateXferLib.checkpoints.ensemble_card import average_of, members_of
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.ensemble import member_and_weight
from ProstateXferLib.cli.exit_codes import UsageError
from ProstateXferLib.cli.main import main


@pytest.fixture
def two(tmp_path, threshold_state, segmentation_card):
    return [
        write_model(tmp_path / f"{name}.safetensors", threshold_state, segmentation_card("gland"), threshold)
        for name, threshold in (("a", 0.1), ("b", 0.5))
    ]


def test_members_and_weights_by_hand_become_one_small_file(two, tmp_path, capsys):
    output = tmp_path / "both.safetensors"
    words = ["ensemble", f"{two[0]}=3", str(two[1]), "-o", str(output), "--average", "logit", "--name", "mine"]
    assert main(words) == 0
    made = load_checkpoint(output)
    assert made.card.name == "mine" and average_of(made.card) == "logit"
    assert [(member.name, member.weight) for member in members_of(made.card)] == [("a", 0.75), ("b", 0.25)]
    printed = capsys.readouterr().out
    assert "mine: 2 members, averaged by logit." in printed and "0.7500  a" in printed


def test_members_elsewhere_are_copied_when_asked_for(two, tmp_path, capsys):
    far = tmp_path / "far"
    far.mkdir()
    words = ["ensemble", *map(str, two), "-o", str(far / "both.safetensors"), "--json"]
    assert main(words) == 1
    assert "--copy-members" in capsys.readouterr().err
    assert main([*words, "--copy-members"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [member["weight"] for member in result["members"]] == [0.5, 0.5]
    for path in two:
        path.unlink()
    assert main(["models", str(far / "both.safetensors")]) == 0


def test_a_weight_is_what_follows_the_last_equals_sign_if_it_is_a_number():
    assert member_and_weight("a.safetensors") == ("a.safetensors", 1.0)
    assert member_and_weight("a.safetensors=0.25") == ("a.safetensors", 0.25)
    assert member_and_weight("folder/lr=x.safetensors") == ("folder/lr=x.safetensors", 1.0)
    assert member_and_weight("folder/lr=3/a=2") == ("folder/lr=3/a", 2.0)
    for wrong in ("a=0", "a=-1", "a=nan", "=2"):
        with pytest.raises(UsageError, match="needs a member and a weight above 0"):
            member_and_weight(wrong)


def test_select_writes_ensemble_record_and_report_and_tells_the_verdict(
    tmp_path, threshold_state, segmentation_card, capsys
):
    pytest.importorskip("matplotlib")
    candidates = {"large": (0.1,), "small": (0.5,), "wrong": (0.7,)}
    plan = write_cone_plan(tmp_path, candidates, threshold_state, segmentation_card("gland"), cases=8)
    words = ["ensemble", "select", str(plan), "-o", str(tmp_path / "out"), "--device", "cpu", "--folds", "2"]
    assert main([*words, "--rounds", "2", "--baseline", "small,wrong", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["members"] == {"large": 0.5, "small": 0.5} and result["verdict"] == "beats"
    assert result["text"].startswith("On 8 held-out cases of 8 patients the chosen ensemble beats the baseline")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "ensemble.members",
        "ensemble.safetensors",
        "predictions",
        "report.html",
        "selection.json",
    }
    assert load_checkpoint(tmp_path / "out" / "ensemble.safetensors").card.name == "out"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--trade", "2"], 2, "trade of 2.0 is impossible"),
        (["--folds", "1"], 2, "2 outer folds or more"),
        (["--jobs", "0"], 2, "--jobs must be at least 1"),
        (["--baseline", "a,,b"], 2, "is not NAME,NAME"),
        (["--names", "1-Prostate"], 2, "is not VALUE=NAME"),
        ([], 1, "cannot be read as text"),
    ],
)
def test_wrong_use_is_told_before_any_work(tmp_path, capsys, words, code, sentence):
    pytest.importorskip("matplotlib")
    plan = ["ensemble", "select", str(tmp_path / "none.csv"), "-o", str(tmp_path / "out")]
    assert main([*plan, *words]) == code
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
