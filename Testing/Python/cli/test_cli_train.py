# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer train`: recipes are shown and refused before anything runs, changed from the command line, and run."""

import json

import pytest

from ProstateXferLib.cli.main import main

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")

import yaml

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.training.engine import launch
from ProstateXferLib.training.recipe.files import recipe_names
from ProstateXferLib.training.tasks.registry import TASKS
from toy_training.recipe import toy_recipe
from toy_training.task import KIND


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    """The toy recipe as toy.yaml in an otherwise empty folder, which is the current one."""
    monkeypatch.setitem(TASKS, "toy", KIND)
    monkeypatch.delenv("PROSTATEXFER_DATA", raising=False)
    monkeypatch.delenv("PROSTATEXFER_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(toy_recipe()), encoding="utf-8")


def train(*words):
    return main(["train", *map(str, words)])


def events_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", recipe_names())
def test_a_dry_run_shows_every_value_of_a_recipe_that_comes_along_and_writes_nothing(tmp_path, capsys, name):
    assert train(name, "-o", "m.safetensors", "--dry-run") == 0
    listed = yaml.safe_load(capsys.readouterr().out)
    assert {"loop", "optimiser", "schedule", "split", "groups", "selection"} <= set(listed["stages"][0])
    assert listed["stages"][0]["loop"]["accumulate"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["toy.yaml"]


def test_a_dry_run_with_data_tells_cases_splits_steps_and_parameters(tmp_path, capsys):
    frozen = "stages.only.groups=[{match: [encoder], frozen: true}]"
    words = ("toy.yaml", "-o", "m.safetensors", "--data", ".", "--set", frozen, "--dry-run")
    assert train(*words) == 0
    told = capsys.readouterr().out.splitlines()
    for line in (
        "Stage only",
        "  phantoms -: 6 case(s), weight 1",
        "  split: train 2, validation 2, tuning 0, test 2",
        "  steps: 40, 10 an epoch",
        "  parameters encoder: 112 frozen",
        "  parameters rest: 17 trained, learning rate x 1",
    ):
        assert line in told
    assert train(*words, "--json") == 0
    (event,) = events_of(capsys)
    assert event["recipe"]["stages"][0]["groups"][0]["frozen"] is True
    assert event["stages"][0]["sources"][0]["cases"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["toy.yaml"]


def test_the_command_line_changes_fold_steps_and_single_values(capsys):
    changes = ("--fold", 2, "--steps", 7, "--set", "stages.only.loop.batch_size=4", "--set", "seed=9")
    assert train("toy.yaml", "-o", "m.safetensors", "--dry-run", "--json", *changes) == 0
    recipe = events_of(capsys)[0]["recipe"]
    (stage,) = recipe["stages"]
    found = (stage["split"]["fold"], stage["schedule"]["max_steps"], stage["loop"]["batch_size"], recipe["seed"])
    assert found == (2, 7, 4, 9)


def test_training_writes_checkpoint_and_run_and_tells_its_way(tmp_path, capsys):
    assert train("toy.yaml", "-o", "m.safetensors", "--device", "cpu", "--json") == 0
    events = events_of(capsys)
    assert [event["event"] for event in events[:-1]] == ["progress"] * (len(events) - 1)
    assert events[1]["message"].startswith("step 20/40  loss ")
    assert events[-1]["event"] == "result"
    assert events[-1]["checkpoint"] == "m.safetensors"
    assert events[-1]["scores"][0]["metric"] == "mean weight"
    stage = tmp_path / "m.run" / "stages" / "01-only"
    expected = {"best.safetensors", "done.json", "final.safetensors", "metrics.jsonl", "split.json", "state.pt"}
    assert {path.name for path in stage.iterdir()} == expected | {"tensorboard"}
    assert yaml.safe_load((tmp_path / "m.run" / "recipe.yaml").read_text(encoding="utf-8"))["seed"] == 3


def test_the_same_command_again_does_nothing_twice_and_another_recipe_is_refused(tmp_path, capsys):
    words = ("toy.yaml", "-o", "m.safetensors", "--device", "cpu", "--steps", 5)
    assert train(*words) == 0
    state = tmp_path / "m.run" / "stages" / "01-only" / "state.pt"
    before = state.stat().st_mtime_ns
    assert train(*words) == 0
    assert state.stat().st_mtime_ns == before
    assert train(*words, "--set", "seed=4") == 1
    assert "belongs to another recipe (seed: 3 there, 4 here)" in capsys.readouterr().err
    assert train(*words, "--set", "seed=4", "--restart") == 0
    assert train(*words, "--set", "seed=4", "--run", "elsewhere") == 0
    assert (tmp_path / "elsewhere" / "recipe.yaml").is_file()


def test_scoring_alone_keeps_the_weights(tmp_path, capsys):
    assert train("toy.yaml", "-o", "m.safetensors", "--device", "cpu", "--steps", 5) == 0
    before = read_card(tmp_path / "m.safetensors")
    assert train("toy.yaml", "-o", "m.safetensors", "--device", "cpu", "--score-only", "--set", "texts.title=New") == 0
    after = read_card(tmp_path / "m.safetensors")
    assert (after.title, after.scores, after.history) == ("New", before.scores, before.history)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("no-such-recipe", "-o", "m.safetensors"), 1, "There is no recipe 'no-such-recipe'"),
        (("toy.yaml",), 2, "the following arguments are required: -o/--output"),
        (("toy.yaml", "-o", "m.pt"), 2, "must end in .safetensors; 'm.pt' does not"),
        (("toy.yaml", "-o", "nowhere/m.safetensors"), 1, "The folder 'nowhere' does not exist"),
        (("toy.yaml", "-o", "m.safetensors", "--steps", "0"), 2, "--steps must be at least 1"),
        (("toy.yaml", "-o", "m.safetensors", "--devices", "0"), 2, "--devices must be at least 1"),
        (("toy.yaml", "-o", "m.safetensors", "--nodes", "2"), 2, "start the command on every machine with torchrun"),
        (("toy.yaml", "-o", "m.safetensors", "--device", "gpu"), 1, "Device 'gpu' is not known"),
        (("toy.yaml", "-o", "m.safetensors", "--devices", "2", "--device", "cuda:1"), 2, "takes the first GPUs"),
        (("toy.yaml", "-o", "m.safetensors", "--devices", "2", "--score-only"), 2, "works in one process"),
        (("toy.yaml", "-o", "m.safetensors", "--device", "cpu", "--score-only"), 1, "cannot be read"),
        (
            ("toy.yaml", "-o", "m.safetensors", "--set", "sped=1"),
            1,
            "toy.yaml has the unknown key 'sped': did you mean",
        ),
        (("folder.yaml", "-o", "m.safetensors", "--device", "cpu"), 1, "there is no data folder 'absent'"),
        (("folder.yaml", "-o", "m.safetensors", "--data", ".", "--dry-run"), 1, "there is no data folder 'absent'"),
        (("broken.yaml", "-o", "m.safetensors"), 1, "broken.yaml has the unknown key 'sped'"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence_before_any_work(tmp_path, capsys, words, code, sentence):
    (tmp_path / "broken.yaml").write_text("name: a\nsped: 1\n", encoding="utf-8")
    folder = toy_recipe({"data": [{"layout": "cases", "path": "absent"}]})
    (tmp_path / "folder.yaml").write_text(yaml.safe_dump(folder), encoding="utf-8")
    assert train(*words) == code
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("prostatexfer: ")
    assert sentence in told[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.yaml", "folder.yaml", "toy.yaml"]


def test_several_devices_run_the_same_command_under_torchrun(monkeypatch, tmp_path):
    started = []

    class Child:
        returncode = 0

        def __init__(self, words, start_new_session):
            started.append(words)

        def poll(self):
            return 0

    monkeypatch.setattr(launch.subprocess, "Popen", Child)
    options = ("--device", "cpu", "--data", "d", "--run", "r", "--fold", 1, "--steps", 3, "--restart", "--json")
    assert train("toy.yaml", "-o", "m.safetensors", "--devices", 2, *options, "--set", "seed=4") == 0
    (words,) = started
    assert words[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--module"]
    assert words[6:] == [
        *("ProstateXferLib", "train", "toy.yaml", "--output", "m.safetensors", "--device", "cpu", "--data", "d"),
        *("--fold", "1", "--steps", "3", "--run", "r", "--set", "seed=4", "--restart", "--json"),
    ]


def test_a_failure_in_one_of_several_processes_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(launch, "torchrun_command", lambda words, devices: ["false"])
    assert train("toy.yaml", "-o", "m.safetensors", "--devices", 2) == 1
    assert "One of the 2 processes failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "words", "sentence"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, (), "RANK, WORLD_SIZE and LOCAL_RANK must all be numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, (), "RANK 2 of WORLD_SIZE 2"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, ("--devices", 3), "leave --nodes and --devices out"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, ("--score-only",), "start it without torchrun"),
    ],
)
def test_torchruns_variables_must_fit(monkeypatch, capsys, variables, words, sentence):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train("toy.yaml", "-o", "m.safetensors", "--device", "cpu", *words) in (1, 2)
    assert sentence in capsys.readouterr().err
