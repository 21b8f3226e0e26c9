# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer train`: recipes are shown and refused before anything runs (whole trainings: test_training_stages)."""

import json

import pytest

from ProstateXferLib.cli.main import main

pytest.importorskip("yaml")

from ProstateXferLib.training.one_stage_recipe import RECIPES, load_recipe

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def train(*words):
    return main(["train", *map(str, words)])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_dry_run_shows_every_value_of_a_shipped_recipe_and_writes_nothing(tmp_path, capsys, name):
    assert train(name, "-o", tmp_path / "m.safetensors", "--dry-run") == 0
    told = capsys.readouterr().out
    recipe = load_recipe(name)
    for line in (f"name: {recipe.name}", f"  steps: {recipe.schedule.steps}", f"  title: {recipe.texts.title}"):
        assert line in told.splitlines()
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_as_json_holds_the_whole_recipe_defaults_included(tmp_path, capsys):
    assert train("prostate-dil-small", "-o", tmp_path / "m.safetensors", "--dry-run", "--json") == 0
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert event["recipe"]["kind"] == "segmentation"
    assert event["recipe"]["schedule"]["clip_norm"] == 1.0


@pytest.mark.parametrize(("steps", "warmup"), [(8, 2), (1, 0)])
def test_fewer_steps_shorten_the_warm_up_too(tmp_path, capsys, steps, warmup):
    words = ("prostate-dil-small", "-o", tmp_path / "m.safetensors", "--dry-run", "--json", "--steps", steps)
    assert train(*words) == 0
    schedule = json.loads(capsys.readouterr().out)["recipe"]["schedule"]
    assert (schedule["steps"], schedule["warmup_steps"]) == (steps, warmup)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ("no-such-recipe", "-o", "m.safetensors"),
            1,
            "There is no recipe 'no-such-recipe': give a YAML file or one of",
        ),
        (("prostate-dil-small",), 2, "the following arguments are required: -o/--output"),
        (("prostate-dil-small", "-o", "m.pt"), 2, "must end in .safetensors; 'm.pt' does not"),
        (("prostate-dil-small", "-o", "nowhere/m.safetensors"), 1, "The folder 'nowhere' does not exist"),
        (("prostate-dil-small", "-o", "m.safetensors", "--steps", "0"), 2, "--steps must be at least 1"),
        (("prostate-dil-small", "-o", "m.safetensors", "--device", "gpu"), 1, "Device 'gpu' is not known"),
        (("prostate-dil-small", "-o", "m.safetensors", "--data", "nowhere"), 1, "There is no data folder"),
        (("broken.yaml", "-o", "m.safetensors"), 1, "broken.yaml has the unknown key 'sped'"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence_before_any_work(tmp_path, monkeypatch, capsys, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("kind: segmentation\nsped: 1\n", encoding="utf-8")
    assert train(*words) == code
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("prostatexfer: ")
    assert sentence in told[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"]
