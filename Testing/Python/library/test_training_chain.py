# SPDX-License-Identifier: Apache-2.0
"""Stages in a row: what each hands on, what a run folder remembers, and that a killed run ends as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.errors import CancelledError, ProstateXferError

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")

import yaml

from ProstateXferLib.training.chain import run_chain, score_chain
from ProstateXferLib.training.outline import outline_chain
from ProstateXferLib.training.recipe.reading import chain_from, recipe_sha256
from ProstateXferLib.training.recipe.schema import Start
from ProstateXferLib.training.run_folder import RunFolder, first_difference
from ProstateXferLib.training.start_weights import cut_weights
from ProstateXferLib.training.tasks.registry import TASKS
from toy_training.engine import Watcher
from toy_training.engine import same as same_weights
from toy_training.killed import train_until
from toy_training.recipe import toy_recipe
from toy_training.task import KIND, ToyTask

TESTS = Path(__file__).resolve().parents[1]
HARD = {"settings": {"norm": "batch", "dropout": 0.3}, "loop.ema": 0.9}
NEXT = {"start.checkpoint": "{previous}", "groups": [{"match": ["head"], "factor": 0.1}]}
TWO_STAGES = (HARD, {"name": "second", **HARD, **NEXT})


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(TASKS, "toy", KIND)


@pytest.fixture
def run(tmp_path):
    """run(*stages, output="a", ...) -> path of the checkpoint; the run is beside it."""

    def train(*stages, output="a", watcher=None, restart=False, data=None, **chain):
        recipe = chain_from(toy_recipe(*stages, **chain), where="toy.yaml")
        options = {"data": data or tmp_path, "device": torch.device("cpu"), "restart": restart}
        return run_chain(recipe, tmp_path / f"{output}.safetensors", progress=watcher or Watcher(), **options)

    return train


def weights(path):
    return read_checkpoint(path)[1]


def same(first, second):
    return same_weights(weights(first), weights(second))


def test_every_stage_begins_with_what_the_one_before_selected(run, tmp_path):
    output = run({}, {"name": "second", "start.checkpoint": "{previous}", "optimiser.learning_rate": 0.0})
    folders = RunFolder(tmp_path / "a.run")
    assert same(folders.stage(0, "only").weights("best"), folders.stage(1, "second").weights("final"))
    assert same(output, folders.stage(1, "second").weights("best"))
    assert folders.stage(1, "second").path.name == "02-second"


def test_a_stage_may_begin_with_any_earlier_one(run, tmp_path):
    still = {"start.checkpoint": "{stage:only}", "optimiser.learning_rate": 0.0}
    output = run({}, {"name": "b", "start.checkpoint": "{previous}"}, {"name": "c", **still})
    folders = RunFolder(tmp_path / "a.run")
    assert same(output, folders.stage(0, "only").weights("best"))
    assert not same(output, folders.stage(1, "b").weights("best"))


def test_the_last_weights_are_handed_on_where_the_recipe_says_so(run, tmp_path):
    shaky = {"optimiser.learning_rate": 0.3, "loop.validate_epochs": 1}
    output = run({**shaky, "selection.keep": "final"})
    folder = RunFolder(tmp_path / "a.run").stage(0, "only")
    assert same(output, folder.weights("final"))
    assert folder.weights("best").is_file()
    assert not same(output, folder.weights("best"))


def test_the_card_tells_what_was_trained_on_what_and_names_nobody(run, tmp_path):
    recipe = toy_recipe(*TWO_STAGES)
    output = run(*TWO_STAGES)
    card = read_checkpoint(output)[0]
    first, second = card.history
    assert (first["stage"], second["stage"]) == ("only", "second")
    assert first["recipe"] == {"name": "toy", "sha256": recipe_sha256(chain_from(recipe, where="x"))}
    assert (first["start"], second["start"]["name"]) == (None, "stage only")
    (data,) = first["data"]
    assert (data["layout"], data["cases"], len(data["sha256"])) == ("phantoms", 6, 64)
    assert {side: len(ids) for side, ids in first["split"]["ids"].items()} == {
        "train": 2,
        "validation": 2,
        "tuning": 0,
        "test": 2,
    }
    assert (first["selected"]["metric"], first["seed"], first["steps"]) == ("error", 3, first["selected"]["step"])
    assert set(first["versions"]) == {"prostatexfer", "torch", "python"}
    assert "phantom-0" not in card.to_json()
    assert str(tmp_path) not in card.to_json()
    (score,) = card.scores
    assert (score.metric, score.cases) == ("mean weight", 2)


def test_a_result_may_be_stored_in_half_precision(run, tmp_path):
    output = run(store="fp16")
    half, full = weights(output), weights(RunFolder(tmp_path / "a.run").stage(0, "only").weights("best"))
    assert {value.dtype for value in half.values()} == {torch.float16}
    assert all(torch.equal(half[name], full[name].half()) for name in full)


def test_progress_goes_on_through_all_stages_to_the_end(run):
    watcher = Watcher()
    run(*TWO_STAGES, watcher=watcher)
    fractions = [fraction for _, fraction, _ in watcher.reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_a_run_that_is_over_trains_nothing_and_gives_the_same(run, tmp_path, monkeypatch):
    first = run(*TWO_STAGES).read_bytes()
    (tmp_path / "a.safetensors").unlink()
    monkeypatch.setattr(ToyTask, "after_step", lambda *_: pytest.fail("a step was made"))
    assert run(*TWO_STAGES).read_bytes() == first


def test_a_stopped_chain_goes_on_in_the_stage_where_it_was(run, tmp_path):
    whole = run(*TWO_STAGES, output="whole")
    for stop_after in (25, 40):
        with pytest.raises(CancelledError):
            run(*TWO_STAGES, watcher=Watcher(stop_after))
    assert RunFolder(tmp_path / "a.run").stage(1, "second").path.is_dir()
    assert same(run(*TWO_STAGES), whole)


def test_a_folder_of_another_recipe_is_refused_and_says_what_differs(run):
    run()
    with pytest.raises(ProstateXferError, match=r"another recipe \(stages\[0\].loop.ema: 0.0 there, 0.5 here"):
        run({"loop.ema": 0.5})
    with pytest.raises(ProstateXferError, match=r"belongs to another recipe \(stages: "):
        run({}, {"name": "b"})
    assert run({"loop.ema": 0.5}, restart=True).is_file()


def test_a_folder_of_an_earlier_version_without_a_key_that_has_a_default_goes_on(run, tmp_path):
    first = run().read_bytes()
    kept = tmp_path / "a.run" / "recipe.yaml"
    recipe = yaml.safe_load(kept.read_text(encoding="utf-8"))
    del recipe["store"], recipe["stages"][0]["settings"]["sizes"], recipe["stages"][0]["schedule"]["max_steps"]
    kept.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert run().read_bytes() == first


def test_a_folder_of_other_data_is_refused_and_says_what_differs(run, tmp_path):
    def images(folder, value):
        import SimpleITK as sitk

        for case in range(6):
            path = tmp_path / folder / "mine" / f"case-{case}"
            path.mkdir(parents=True)
            image = sitk.Image(4, 4, 4, sitk.sitkUInt8) + case
            sitk.WriteImage(image + value, path / "t2w.nii.gz")
            sitk.WriteImage(image * 0, path / "gland.nii.gz")
        return tmp_path / folder

    stage = {"data": [{"layout": "cases", "path": "mine"}]}
    first = images("first", 0)
    run(stage, data=first)
    run(stage, data=first)
    with pytest.raises(ProstateXferError, match=r"begun with other data or start \(data\[0\].sha256: '.*--restart"):
        run(stage, data=images("second", 1))


def test_a_second_process_in_the_same_folder_is_refused(run, tmp_path):
    code = (
        "import sys, pathlib; from ProstateXferLib.training.run_folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).locked():\n    print('locked', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.run")]
    with subprocess.Popen(
        words, cwd=TESTS.parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ProstateXferError, match="Another process trains in"):
            run()
        other.kill()
    assert run().is_file()


def test_weights_are_taken_by_prefix_and_dropped_by_any_part_of_a_name():
    given = {"encoder.a": 1, "encoder.head.a": 2, "head.a": 3, "decoder.encoder.a": 4}
    assert cut_weights(given, Start("x"), source="s") == given
    assert cut_weights(given, Start("x", parts=("encoder.",)), source="s") == {"encoder.a": 1, "encoder.head.a": 2}
    assert cut_weights(given, Start("x", drop=("head",)), source="s") == {"encoder.a": 1, "decoder.encoder.a": 4}
    assert cut_weights(given, Start("x", ("encoder.",), ("head",)), source="s") == {"encoder.a": 1}


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (Start("x", parts=("encodr.",)), r"No weight of 's' begins with 'encodr.' \(start.parts\): the names are like"),
        (Start("x", drop=("heads",)), r"No weight of 's' contains 'heads' \(start.drop\)"),
        (Start("x", ("encoder.",), ("head",)), r"No weight of 's' contains 'head' \(start.drop\)"),
    ],
)
def test_a_misspelt_part_of_a_start_is_refused(start, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        cut_weights({"encoder.a": 1, "head.a": 2}, start, source="s")


def test_a_start_from_a_file_leaves_its_history_and_no_folder_in_the_card(run, tmp_path):
    card = ModelCard("mine", "encoder", "dinov3", history=({"stage": "long ago"},))
    given = {"encoder.0.weight": torch.full((16, 4), 0.5), "head.weight": torch.zeros(1, 16)}
    path = write_checkpoint(tmp_path / "mine.safetensors", card, given)
    start = {"start": {"checkpoint": str(path), "drop": ["head"]}, "groups": [{"match": ["encoder"], "frozen": True}]}
    card, trained = read_checkpoint(run(start))
    assert torch.equal(trained["encoder.0.weight"], given["encoder.0.weight"])
    assert [entry["stage"] for entry in card.history] == ["long ago", "only"]
    assert card.history[1]["start"]["name"] == "mine.safetensors"


def test_scoring_anew_renews_the_card_and_keeps_weights_and_history(run, tmp_path):
    output = run()
    before = read_checkpoint(output)
    recipe = toy_recipe()
    recipe["texts"] = {**recipe["texts"], "title": "A better title"}
    score_chain(chain_from(recipe, where="x"), output, data=tmp_path, device=torch.device("cpu"))
    card, after = read_checkpoint(output)
    assert all(torch.equal(after[name], before[1][name]) for name in after)
    assert (card.title, card.history, card.scores) == ("A better title", before[0].history, before[0].scores)


def test_an_outline_tells_cases_steps_and_parameters_and_keeps_nothing(tmp_path):
    passes = {"schedule.steps_per_epoch": None, "data": [{"layout": "phantoms", "options": {"count": 9}}]}
    frozen = {"groups": [{"match": ["encoder"], "frozen": True}, {"match": ["bias"], "factor": 0.5}]}
    recipe = chain_from(toy_recipe(frozen, {"name": "b", "start.checkpoint": "{previous}", **passes}), where="x")
    first, second = outline_chain(recipe, data=tmp_path, run_folder=tmp_path / "none", progress=Watcher())
    assert first["sources"][0]["cases"] == 6
    assert first["split"] == {"train": 2, "validation": 2, "tuning": 0, "test": 2}
    assert (first["steps_per_epoch"], first["total_steps"]) == (10, 40)
    counts = {(g["group"], g["frozen"]): (g["parameters"], g["factor"]) for g in first["parameters"]}
    assert counts == {
        ("encoder", True): (16 * 4 + 16 + 32, (1.0, 1.0)),
        ("rest", False): (16, (1.0, 1.0)),
        ("bias", False): (1, (0.5, 0.5)),
    }
    assert (second["steps_per_epoch"], second["parameters"]) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_the_first_difference_is_found_at_every_depth():
    then = {"a": [1, {"b": 2}], "c": 3}
    assert first_difference(then, {"a": [1, {"b": 2}], "c": 3}) is None
    assert first_difference(then, {"a": [1, {"b": 4}], "c": 3}) == ("a[1].b", 2, 4)
    assert first_difference(then, {"a": [1], "c": 3})[0] == "a"
    assert first_difference(then, {"a": [1, {"b": 2}]})[0] == "c"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recipe of two stages with everything that a resumed run could lose, and the run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "toy.yaml").write_text(yaml.safe_dump(toy_recipe(*TWO_STAGES)), encoding="utf-8")
    assert train_until([str(folder / "toy.yaml"), "-o", str(folder / "whole.safetensors")], "never", 1) == 0
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor a fork server")
@pytest.mark.parametrize(
    "kills",
    [
        [("step", 1), ("step", 19), ("step", 40)],
        [("save", 1), ("save", 3), ("save", 2)],
        [("weights", 1), ("weights", 2), ("log", 3), ("done", 1), ("done", 1), ("weights", 1)],
    ],
    ids=["between-saves", "within-saves", "between-files"],
)
def test_a_run_killed_at_any_moment_ends_bit_for_bit_as_one_that_was_not(whole, tmp_path, kills):
    words = [str(whole / "toy.yaml"), "-o", str(tmp_path / "cut.safetensors")]
    for moment, count in kills:
        assert train_until(words, moment, count) == -signal.SIGKILL
    assert train_until(words, "never", 1) == 0
    assert (tmp_path / "cut.safetensors").read_bytes() == (whole / "whole.safetensors").read_bytes()
    for stage in ("01-only", "02-second"):
        cut, uncut = (root / "stages" / stage for root in (tmp_path / "cut.run", whole / "whole.run"))
        for name in ("final.safetensors", "best.safetensors", "metrics.jsonl", "done.json", "split.json"):
            assert (cut / name).read_bytes() == (uncut / name).read_bytes(), name
        assert sorted(path.name for path in cut.iterdir()) == sorted(path.name for path in uncut.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_killed_from_outside_goes_on_too(whole, tmp_path):
    """As a user would see it: the program itself, killed whenever its log has grown."""
    words = [
        sys.executable,
        "-m",
        "toy_training",
        "train",
        str(whole / "toy.yaml"),
        "-o",
        str(tmp_path / "o.safetensors"),
    ]
    paths = os.pathsep.join((str(TESTS), str(TESTS.parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "o.run" / "stages" / "01-only" / "metrics.jsonl"
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (log.is_file() and log.stat().st_size):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert subprocess.run(words, env=environment, capture_output=True).returncode == 0
    assert same(tmp_path / "o.safetensors", whole / "whole.safetensors")


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_the_first_alone_writes(tmp_path):
    paths = os.pathsep.join((str(TESTS), str(TESTS.parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    stages = ({"loop.ema": 0.9, "loop.accumulate": 2}, {"name": "second", "start.checkpoint": "{previous}"})
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(toy_recipe(*stages)), encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--module"]
    words = ["toy_training", "train", str(tmp_path / "toy.yaml"), "--device", "cpu", "--json", "-o"]
    two = subprocess.run(
        [*torchrun, *words, str(tmp_path / "two.safetensors")], env=environment, capture_output=True, text=True
    )
    assert two.returncode == 0, two.stderr
    one = [sys.executable, "-m", *words, str(tmp_path / "one.safetensors")]
    assert subprocess.run(one, env=environment, capture_output=True).returncode == 0
    first, second = weights(tmp_path / "one.safetensors"), weights(tmp_path / "two.safetensors")
    for name, value in first.items():
        assert (second[name] - value).abs().max() <= 1e-6 * value.abs().max(), name
    events = [json.loads(line)["event"] for line in two.stdout.splitlines()]
    assert events.count("result") == 1
    logs = [
        [json.loads(line) for line in (tmp_path / f"{n}.run/stages/01-only/metrics.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for one_line, two_line in zip(*logs, strict=True):
        for key in ("loss", "gradient_norm", "error"):
            if key in one_line:
                assert two_line[key] == pytest.approx(one_line[key], rel=1e-5)
