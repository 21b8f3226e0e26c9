# SPDX-License-Identifier: Apache-2.0
"""Whole self-supervised trainings in miniature, through the command line."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from training_runs.command import log_of, train, write_recipe
from watchers.stops_after import StopsAfter

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.errors import CancelledError
from ProstateXferLib.files import file_sha256
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.training.chain import run_chain
from ProstateXferLib.training.exchange.export import export_package
from ProstateXferLib.training.recipe.reading import read_recipe

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")

TINY = {
    "name": "tiny-encoder",
    "seed": 3,
    "texts": {"title": "Tiny", "training_data": "made up", "licence": "Apache-2.0", "citation": "none"},
    "stages": [
        {
            "name": "adapt",
            "task": "self_supervision",
            "settings": {
                "sequences": ["T2w", "CT"],
                "crops": [{"large": 32, "small": 16}],
                "views": {"small_count": 2},
                "heads": {"prototypes": 16, "hidden": 16, "bottleneck": 8},
                "teacher_temperature": {"warmup_epochs": 1},
                "freeze_last_layer_epochs": 1,
                "momentum": {"start": 0.9, "peak": 0.9, "end": 0.9},
                "probe": {"slices": 4, "slices_per_case": 2, "neighbours": 3},
            },
            "network": {
                "architecture": "dinov3",
                "arguments": {
                    "width": 32,
                    "depth": 2,
                    "heads": 2,
                    "qkv_bias": False,
                    "eps": 1e-6,
                    "rope_dtype": "bf16",
                    "layer_scale_start": 1.0,
                },
            },
            "data": [
                {"layout": "images-only", "path": "mr"},
                {"layout": "images-only", "path": "ct", "options": {"sequence": "CT"}},
                {"layout": "cases", "path": "labelled"},
            ],
            "split": {"rule": "fixed", "validation": ["a", "b"], "test": ["c", "d"]},
            "optimiser": {"name": "adamw", "learning_rate": 2.0e-3, "layer_decay": 0.9, "clip_norm": 3.0},
            "schedule": {"epochs": 3, "steps_per_epoch": 2, "decay": "constant"},
            "loop": {"batch_size": 4, "save_steps": 2},
            "selection": {"keep": "final", "metric": "loss", "higher_is_better": False},
        }
    ],
}


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two MR, a CT, and four labelled MR with a bright square, each 3 slices of 48 x 48."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("one", "two"):
        write(folder / f"mr/{name}.nii.gz", random.normal(100, 30, (3, 48, 48)).astype(np.float32))
    write(folder / "ct/three.nii.gz", random.normal(0, 300, (3, 48, 48)).astype(np.float32))
    for name in "abcd":
        mask = np.zeros((3, 48, 48), np.uint8)
        mask[:, 16:32, 16:48] = 1
        pixels = random.normal(100, 5, (3, 48, 48)) + 100 * mask
        write(folder / f"labelled/{name}/t2w.nii.gz", pixels.astype(np.float32))
        write(folder / f"labelled/{name}/gland.nii.gz", mask)
    return folder


def with_settings(recipe=TINY, /, **changes):
    """The tiny recipe with keys of its stage's settings replaced."""
    stage = recipe["stages"][0]
    return {**recipe, "stages": [{**stage, "settings": {**stage["settings"], **changes}}]}


def checkpoint_of(folder, recipe, data, *words):
    """Path of what `prostatexfer train` makes of a recipe."""
    code, output = train(folder, recipe, *words, data=data)
    assert code == 0
    return output


def lines(output, kind):
    return [entry for entry in log_of(output) if entry["kind"] == kind]


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    return checkpoint_of(tmp_path_factory.mktemp("made"), TINY, data)


def test_the_checkpoint_is_the_teachers_encoder(made):
    checkpoint = load_checkpoint(made)
    network = checkpoint.build()
    assert isinstance(network, DINOv3) and (network.width, network.eps, network.rope_dtype) == (
        32,
        1e-6,
        torch.bfloat16,
    )
    assert checkpoint.card.task == "encoder" and checkpoint.card.arguments["normalisation"].keys() == {"T2w", "CT"}
    assert checkpoint.card.arguments["normalisation"]["CT"] == "clamped to -1000 to 1000 HU, then z-score of the slice"
    state = torch.load(made.with_suffix(".run") / "stages/01-adapt/state.pt", weights_only=True)["learner"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[f"teacher.backbone.{name}"])
    assert not torch.equal(state["student.backbone.norm.weight"], state["teacher.backbone.norm.weight"])


def test_losses_and_measures_of_collapse_are_logged(made):
    (last, *_) = reversed(lines(made, "train"))
    assert last["step"] == 6 and {"loss", "dino_global", "dino_local", "ibot", "koleo"} <= last.keys()
    validation = lines(made, "validation")[-1]
    assert validation["class_spread"] > 0.05 and validation["patch_effective_rank"] > 1
    assert 0 <= validation["probe_dice"] <= 1


def test_test_cases_score_the_encoder(made):
    scores = {score.metric: score for score in load_checkpoint(made).card.scores}
    assert scores.keys() == {"Prostate, Dice of patches by k-NN", "Prostate, AUC of patches by k-NN"}
    # The square is bright in every patient: even a hardly trained encoder tells it.
    assert scores["Prostate, AUC of patches by k-NN"].value > 0.9
    assert {score.cases for score in scores.values()} == {2}


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, data, made):
    chain, output = read_recipe(write_recipe(tmp_path / "recipe.yaml", TINY)), tmp_path / "resumed.safetensors"
    options = {"data": data, "device": torch.device("cpu"), "cache": made.with_suffix(".run") / "cache"}
    with pytest.raises(CancelledError, match="after step"):
        run_chain(chain, output, progress=StopsAfter(10), **options)
    run_chain(chain, output, **options)
    whole, resumed = read_checkpoint(made)[1], read_checkpoint(output)[1]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_heads_are_kept_for_a_next_stage_and_left_out_at_the_end(tmp_path, data):
    """Two stages, the second with larger crops of two kinds and a Gram teacher."""
    first = with_settings(keep_heads=True)["stages"][0]
    second = with_settings(
        crops=[{"large": 32, "small": 16, "gram": 48, "share": 0.5}, {"large": 48, "small": 32, "gram": 64}],
        gram={"weight": {"start": 0.0, "peak": 0.0, "end": 2.0}, "refresh_steps": 2, "refreshes": 1},
    )["stages"][0] | {"name": "gram", "start": {"checkpoint": "{previous}"}}
    made = checkpoint_of(tmp_path, {**TINY, "stages": [first, second]}, data, "--steps", "3")
    kept = read_checkpoint(made.with_suffix(".run") / "stages/01-adapt/final.safetensors")[1]
    assert {name.split(".")[0] for name in kept} == {"backbone", "dino_head", "ibot_head"}
    assert not any("head" in name for name in read_checkpoint(made)[1])
    assert [entry["stage"] for entry in load_checkpoint(made).card.history] == ["adapt", "gram"]
    state = torch.load(made.with_suffix(".run") / "stages/02-gram/state.pt", weights_only=True)["learner"]
    assert any(name.startswith("gram.") for name in state)


def test_the_gram_teacher_may_be_what_an_earlier_stage_selected(tmp_path, data):
    """The second stage starts at random, so that only the named teacher can have the first stage's weights."""
    first = with_settings(keep_heads=True)["stages"][0]
    second = with_settings(gram={"teacher": "{stage:adapt}"})["stages"][0] | {"name": "gram"}
    made = checkpoint_of(tmp_path, {**TINY, "stages": [first, second]}, data, "--steps", "2")
    run = made.with_suffix(".run") / "stages"
    adapted = read_checkpoint(run / "01-adapt/final.safetensors")[1]
    state = torch.load(run / "02-gram/state.pt", weights_only=True)["learner"]
    teacher = {name.removeprefix("gram."): value for name, value in state.items() if name.startswith("gram.")}
    assert teacher.keys() == {name[9:] for name in adapted if name.startswith("backbone.")}
    assert all(torch.equal(value, adapted[f"backbone.{name}"]) for name, value in teacher.items())
    last = load_checkpoint(made).card.history[-1]
    assert last["start"] is None
    assert last["checkpoints"]["settings.gram.teacher"]["name"] == "stage adapt"


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [("{stage:adept}", "settings.gram.teacher '{stage:adept}' is no earlier stage"), ("gone.safetensors", "gone")],
)
def test_a_gram_teacher_that_is_not_there_is_refused_before_anything_runs(tmp_path, data, capsys, teacher, sentence):
    output = tmp_path / "made.safetensors"
    recipe = write_recipe(tmp_path / "recipe.yaml", with_settings(gram={"teacher": teacher}))
    assert main(["train", str(recipe), "-o", str(output), "--data", str(data)]) != 0
    error = capsys.readouterr().err
    assert sentence in error and "gram.teacher" in error
    assert not output.with_suffix(".run").exists()


def test_a_stage_begins_with_the_weights_of_its_checkpoint(tmp_path, data, made, random_network):
    start = random_network("dinov3", width=32, depth=2, heads=2, hidden=128, qkv_bias=False, eps=1e-6)
    path = write_checkpoint(tmp_path / "start.safetensors", load_checkpoint(made).card, start.state_dict())
    recipe = with_settings(momentum={"start": 1.0, "peak": 1.0, "end": 1.0})  # a teacher that never moves
    recipe["stages"][0]["start"] = {"checkpoint": str(path)}
    trained = checkpoint_of(tmp_path, recipe, data, "--steps", "1")
    for name, value in read_checkpoint(trained)[1].items():
        assert torch.equal(value, start.state_dict()[name])


@pytest.fixture
def package(tmp_path, made):
    """The trained encoder as another centre sends it."""
    path = tmp_path / "from-b.pxweights"
    export_package(made, path, site="B", patients=2)
    return path


def test_a_recipe_may_start_from_another_centres_weights_package(tmp_path, data, made, package):
    recipe = with_settings(momentum={"start": 1.0, "peak": 1.0, "end": 1.0})  # a teacher that never moves
    recipe["stages"][0]["start"] = {"checkpoint": str(package)}
    trained = checkpoint_of(tmp_path, recipe, data, "--steps", "1")
    before, after = read_checkpoint(made)[1], read_checkpoint(trained)[1]
    assert all(torch.equal(after[name], value) for name, value in before.items())
    history = load_checkpoint(trained).card.history
    assert [entry["stage"] for entry in history] == ["adapt", "export", "adapt"]
    (unpacked,) = (trained.with_suffix(".run") / "packages").iterdir()
    assert history[-1]["start"] == {"name": "from-b.pxweights", "sha256": file_sha256(unpacked)}


def test_a_damaged_package_is_refused_before_anything_is_trained(tmp_path, data, package, capsys):
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    first, second = with_settings()["stages"][0], with_settings()["stages"][0] | {"name": "second"}
    second["start"] = {"checkpoint": str(package)}
    output = tmp_path / "made.safetensors"
    recipe = write_recipe(tmp_path / "recipe.yaml", {**TINY, "stages": [first, second]})
    assert main(["train", str(recipe), "-o", str(output), "--data", str(data)]) != 0
    assert "stages[1].start.checkpoint" in capsys.readouterr().err
    assert not output.with_suffix(".run").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"loop": {"batch_size": 4, "ema": 0.99}}, "leave loop.ema at 0"),
        ({"network": {"architecture": "dgcf"}}, "trains a 'dinov3'"),
        ({"network": {"architecture": "dinov3", "arguments": {"depth": 2, "heads": 2}}}, "needs the argument 'width'"),
        ({"network": {"architecture": "dinov3", "arguments": {"widht": 2}}}, "no argument 'widht'"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_in_one_sentence(tmp_path, data, capsys, change, sentence):
    recipe = write_recipe(tmp_path / "recipe.yaml", {**TINY, "stages": [{**TINY["stages"][0], **change}]})
    output = tmp_path / "made.safetensors"
    assert main(["train", str(recipe), "-o", str(output), "--data", str(data)]) != 0
    assert sentence in capsys.readouterr().err and not output.exists()


def test_mixed_precision_and_worker_processes_change_little(tmp_path, data, made):
    words = ("--set", "stages.adapt.loop.precision=bf16", "--set", "stages.adapt.loop.workers=1", "--steps", "2")
    mixed = lines(checkpoint_of(tmp_path, TINY, data, *words), "train")[-1]
    assert mixed["loss"] == pytest.approx(lines(made, "train")[0]["loss"], rel=0.02)


@pytest.mark.parametrize(
    "name", ["ct-pretraining", "mr-adaptation", "mr-gram-anchoring", "mr-high-resolution", "mr-ssl-chain"]
)
def test_the_recipes_run_with_a_tiny_encoder(tmp_path, data, made, random_network, name):
    """As they are, but for sizes, batch, data and start; Meta's encoder has a qkv bias that ct-pretraining drops."""
    meta = name == "ct-pretraining"
    network = random_network("dinov3", width=32, depth=2, heads=2, hidden=128, qkv_bias=meta)
    start = write_checkpoint(tmp_path / "start.safetensors", load_checkpoint(made).card, network.state_dict())
    stages = read_recipe(f"mr_dinov3/{name}").stages
    source = "{layout: images-only, path: ct, options: {sequence: CT}}" if meta else "{layout: cases, path: labelled}"
    changes = {
        "network.arguments.width": 32,
        "network.arguments.depth": 2,
        "network.arguments.heads": 2,
        "settings.heads": "{prototypes: 16, hidden: 16, bottleneck: 8}",
        "settings.probe": "{slices: 2, slices_per_case: 1}",
        "data": f"[{source}]",
        "split.folds": 2,
        "loop": "{batch_size: 2}",
    }
    words = [f"stages.{stage.name}.{key}={value}" for stage in stages for key, value in changes.items()]
    words.append(f"stages.{stages[0].name}.start.checkpoint={start}")
    output = tmp_path / "made.safetensors"
    command = ["train", f"mr_dinov3/{name}", "-o", str(output), "--data", str(data), "--device", "cpu", "--steps", "1"]
    assert main([*command, *(word for change in words for word in ("--set", change))]) == 0
    card, weights = read_checkpoint(output)
    assert [entry["stage"] for entry in card.history][-len(stages) :] == [stage.name for stage in stages]
    assert weights.keys() == {key for key in network.state_dict() if "qkv.bias" not in key}
    # MedDINOv3's settings, whichever encoder it was.
    assert (card.arguments["eps"], card.arguments["rope_dtype"]) == (1e-6, "bf16")


@pytest.mark.slow
def test_two_processes_make_the_weights_of_one(tmp_path, data):
    """Targets are balanced over both processes' crops, and neighbours looked for in both."""
    recipe = with_settings(noise={"drop_path": 0.0}, freeze_last_layer_epochs=0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = read_checkpoint(checkpoint_of(tmp_path / "one", recipe, data))[1]
    two = read_checkpoint(checkpoint_of(tmp_path / "two", recipe, data, "--devices", "2"))[1]
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5)
