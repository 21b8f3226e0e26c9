# SPDX-License-Identifier: Apache-2.0
"""MR-DINOv3's supervised recipes say what the reference notes say, differ only in what they must, and run."""

import pytest
import SimpleITK as sitk
import torch
from training_runs.command import log_of

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import DIL
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.pipelines.segmenter import Segmenter

pytest.importorskip("yaml")

from ProstateXferLib.training.recipe.reading import read_recipe, resolved

ARMS = ("base-frozen", "mr-frozen", "unet")
GRID = Grid((64, 56, 8), (2.0, 2.0, 6.0), (-63.0, -55.0, -21.0))
SMALL = {
    "data": "[{layout: cases, path: cases}]",
    "split": "{rule: fixed, validation: [case-3]}",
    "settings.preprocessing.spacing_yx_mm": "[2.0, 2.0]",
    "settings.preprocessing.tile_yx": "[48, 48]",
    "schedule.epochs": 2,
    "schedule.steps_per_epoch": 2,
    "loop.batch_size": 3,
    "loop.precision": "fp32",
    "loop.workers": 0,
    "loop.validate_epochs": 1,
}


def stage_of(name):
    return resolved(read_recipe(f"mr_dinov3/{name}"))["stages"][0]


def differences(one, two, place=""):
    """Places at which two nested values differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        return {found for key in one | two for found in differences(one.get(key), two.get(key), f"{place}.{key}")}
    return set() if one == two else {place.lstrip(".")}


def test_the_three_arms_differ_only_in_start_network_and_optimiser():
    base, mr, unet = map(stage_of, ARMS)
    assert differences(base, mr) == {"start.checkpoint"}
    assert differences(base, unet) == {
        "start.checkpoint",
        "network.architecture",
        "groups",
        *(f"optimiser.{key}" for key in ("name", "learning_rate", "weight_decay")),
        "schedule.decay",
    }
    assert differences(mr, stage_of("ct-finetuned")) == {"groups"}


def test_the_numbers_are_those_of_the_reference_notes():
    base, unet, tuned = map(stage_of, ("base-frozen", "unet", "ct-finetuned"))
    optimiser = base["optimiser"]
    assert (optimiser["name"], optimiser["betas"], optimiser["learning_rate"]) == ("adamw", [0.9, 0.98], 3e-4)
    assert (optimiser["weight_decay"], optimiser["clip_norm"]) == (0.05, 12.0)
    assert (base["schedule"]["epochs"], base["schedule"]["steps_per_epoch"]) == (1000, 250)
    assert (base["schedule"]["decay"], base["schedule"]["warmup_epochs"]) == ("linear", 0)
    assert base["settings"]["patches"] == {"oversample": 0.33}
    assert [group["frozen"] for group in base["groups"]] == [True]
    assert tuned["groups"][0]["factor"] * optimiser["learning_rate"] == pytest.approx(3e-5)
    assert not tuned["groups"][0]["frozen"]
    assert (unet["optimiser"]["name"], unet["optimiser"]["momentum"]) == ("sgd", 0.99)
    assert (unet["optimiser"]["learning_rate"], unet["optimiser"]["weight_decay"]) == (0.01, 3e-5)
    assert (unet["schedule"]["decay"], unet["schedule"]["power"]) == ("polynomial", 0.9)
    for stage in (base, unet, tuned):
        assert stage["split"]["rule"] == "nnunet"
        assert stage["split"]["folds"] == 5


def test_the_shipped_recipe_still_trains_what_the_shipped_model_was_trained_by():
    chain = read_recipe("prostate-dil-small")
    stage = resolved(chain)["stages"][0]
    settings, optimiser, schedule = (stage[key] for key in ("settings", "optimiser", "schedule"))
    assert (chain.name, chain.seed, chain.store) == ("prostate-dil-small", 0, "fp16")
    assert schedule["epochs"] * schedule["steps_per_epoch"] == 5500
    assert schedule["warmup_epochs"] * schedule["steps_per_epoch"] == 200
    assert schedule["decay"] == "cosine"
    assert (stage["loop"]["batch_size"], stage["loop"]["ema"], stage["loop"]["precision"]) == (16, 0.998, "bf16")
    assert (optimiser["name"], optimiser["learning_rate"], optimiser["betas"]) == ("adamw", 7e-4, [0.9, 0.98])
    assert (optimiser["weight_decay"], optimiser["clip_norm"]) == (0.05, 1.0)
    assert settings["slices"]["warp"] == {
        "size": 128, "rotation_deg": 10.0, "scale": [0.75, 1.33], "shift": 28.0, "elastic_px": 3.0, "flip": True,
    }  # fmt: skip
    assert (settings["slices"]["foreground_share"], settings["slices"]["anywhere"]) == (0.5, 0.12)
    assert settings["tokens"] == {"far": 0.3, "empty": 0.6}
    assert settings["paint"] == {"structure": "DIL", "within": "Prostate", "share": 0.5}
    assert [source["weight"] for source in stage["data"] if not source["test_only"]] == [0.85, 0.15]
    held_out = ("04", "10", "20", "27", "34", "39", "43", "48")
    assert stage["split"]["test"] == [f"promise12_{number}" for number in held_out]
    card = Segmenter("prostate-dil-small", device="cpu").checkpoints[0].card
    assert read_recipe("prostate-dil-small").stages[0].settings.card_heads == card.heads
    assert read_recipe("prostate-dil-small").stages[0].settings.preprocessing == card.preprocessing
    assert chain.texts.training_data == card.training_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three coarse phantoms with gland and lesion, as cases, and a tiny encoder's checkpoint beside them."""
    root = tmp_path_factory.mktemp("data")
    for seed in (1, 2, 3):
        study = make_phantom(seed).render(GRID, modalities=("t2w",))
        case = root / "cases" / f"case-{seed}"
        case.mkdir(parents=True)
        write_image(study.t2w, case / "t2w.nii.gz")
        write_image(sitk.Cast(study.labels > 0, sitk.sitkUInt8), case / "gland.nii.gz")
        write_image(sitk.Cast(study.labels == DIL.value, sitk.sitkUInt8), case / "lesion.nii.gz")
    torch.manual_seed(0)
    encoder = DINOv3(32, 4, 2)
    encoder.init_weights()
    card = ModelCard("tiny-encoder", "encoder", "dinov3", arguments={"eps": 1e-6, "rope_dtype": "bf16"})
    write_checkpoint(root / "encoder.safetensors", card, encoder.state_dict())
    return root


@pytest.mark.parametrize("name", [*ARMS, "ct-finetuned"])
def test_a_recipe_runs_from_a_tiny_encoder_and_gives_a_working_model(tmp_path, data, name):
    pytest.importorskip("lightning_fabric")
    pytest.importorskip("monai")
    small = dict(SMALL)
    if name == "unet":
        small["network.arguments"] = "{base_features: 4, max_features: 8}"
    else:
        small["start.checkpoint"] = data / "encoder.safetensors"
    output = tmp_path / "made.safetensors"
    words = [word for key, value in small.items() for word in ("--set", f"stages.supervised.{key}={value}")]
    recipe = f"mr_dinov3/{name}"
    assert main(["train", recipe, "-o", str(output), "--data", str(data), "--device", "cpu", *words]) == 0
    card, state = read_checkpoint(output)
    assert [(head.name, head.values) for head in card.heads] == [("gland", (1,)), ("dil", (2,))]
    assert [entry["step"] for entry in log_of(output) if "dice" in entry] == [2, 4]
    if name != "unet":
        assert card.arguments == {"eps": 1e-6, "rope_dtype": "bf16", "blocks": [0, 1, 2, 3]}
        start = read_checkpoint(data / "encoder.safetensors")[1]
        kept = [torch.equal(state[f"dino_encoder.{key}"], value) for key, value in start.items() if "weight" in key]
        assert all(kept) if name.endswith("frozen") else not all(kept)
    found = Segmenter(output, device="cpu").predict(read_image(data / "cases" / "case-1" / "t2w.nii.gz"))
    assert set(found.names.values()) == {"Prostate", "DIL"}
