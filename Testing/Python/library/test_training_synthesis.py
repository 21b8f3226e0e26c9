# SPDX-License-Identifier: Apache-2.0
"""Whole synthesis trainings in miniature: the checkpoint loads, works, and says how it was made."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from training_runs.command import logged, train

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.metrics.sct import DGCF_RANGE, psnr
from ProstateXferLib.pipelines.synthesizer import Synthesizer

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")

CT_GRID = Grid((64, 56, 4), (6.0, 6.0, 10.0), (-189.0, -165.0, -15.0))
TINY = {
    "name": "tiny-ct",
    "seed": 3,
    "texts": {"title": "Tiny", "training_data": "phantoms", "licence": "Apache-2.0", "citation": "none"},
    "stages": [
        {
            "name": "train",
            "task": "synthesis",
            "settings": {"sequence": "CBCT", "size_yx": [48, 48]},
            "network": {
                "architecture": "dgcf",
                "arguments": {"base_channels": 4, "encoder": {"width": 32, "depth": 4, "heads": 2}},
            },
            "data": [
                {"layout": "phantoms", "options": {"first_seed": 11, "count": 2}},
                {"layout": "phantoms", "options": {"first_seed": 21, "count": 1}, "test_only": True},
            ],
            "split": {"rule": "none"},
            "optimiser": {"name": "adamw", "learning_rate": 4.0e-3, "weight_decay": 0.01},
            "schedule": {"epochs": 4, "steps_per_epoch": 6},
            "loop": {"batch_size": 2},
        }
    ],
}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Planning grids small enough for a test."""
    monkeypatch.setattr("ProstateXferLib.training.cache.pair_images.default_ct_grid", lambda: CT_GRID)


def tiny(**changes):
    """The tiny recipe with keys of its stage replaced; settings are merged."""
    stage = {**TINY["stages"][0], **changes}
    stage["settings"] = {**TINY["stages"][0]["settings"], **changes.get("settings", {})}
    return {**TINY, "stages": [stage]}


@pytest.fixture
def encoder_file(tmp_path, random_network):
    """A DINOv3 of ours with weights that matter, and it."""
    encoder = random_network("dinov3", width=32, heads=2)
    card = ModelCard("tiny-encoder", "encoder", "dinov3", arguments={"eps": 1e-5, "rope_dtype": "fp32"})
    path = write_checkpoint(tmp_path / "encoder.safetensors", card, encoder.state_dict())
    return SimpleNamespace(path=path, state=encoder.state_dict())


def frozen(encoder_file, **changes):
    """The tiny recipe on a frozen encoder from a file."""
    return tiny(
        network={"architecture": "dgcf", "arguments": {"base_channels": 4}},
        start={"checkpoint": str(encoder_file.path)},
        groups=[{"match": ["dino_encoder"], "frozen": True}],
        **changes,
    )


def write_pairs(root, *, source, count, task=None, grid=CT_GRID):
    """SynthRAD-like cases of phantoms: CASE/{mr|cbct, ct, mask}.nii.gz."""
    for number in range(count):
        study = make_phantom(30 + number).render(grid, modalities=("t2w" if source == "mr" else "cbct", "ct"))
        case = root / f"{task}PA{number:03d}"
        case.mkdir(parents=True)
        write_image(study.t2w if source == "mr" else study.cbct, case / f"{source}.nii.gz")
        write_image(study.ct, case / "ct.nii.gz")
        write_image(body_mask(study.ct), case / "mask.nii.gz")


@pytest.mark.parametrize("sequence", ["CBCT", "T2w"])
def test_a_model_is_trained_scored_on_an_unseen_phantom_and_ready_to_use(tmp_path, sequence):
    code, path = train(tmp_path, tiny(settings={"sequence": sequence, "augmentation": {"flip": True, "shift_px": 3}}))
    assert code == 0
    losses = [line["loss"] for line in logged(path, "loss")]
    assert losses[-1] < 0.9 * losses[0]
    card = load_checkpoint(path).card
    assert (card.name, card.task, card.inputs, card.hu_range) == ("tiny-ct", "synthesis", (sequence,), (-1024, 2000))
    assert card.preprocessing.resize_yx == (48, 48)
    assert card.preprocessing.encoder_range == ((0, 2) if sequence == "T2w" else (-1, 1))
    assert card.arguments == {"eps": 1e-5, "rope_dtype": "fp32", "blocks": [0, 1, 2, 3]}
    assert [score.data for score in card.scores] == ["unseen phantoms"] * len(card.scores)
    values = {score.metric.split(" in ")[0]: score.value for score in card.scores}
    study = make_phantom(21).render(CT_GRID, modalities=("t2w" if sequence == "T2w" else "cbct", "ct"))
    synthetic = Synthesizer(path, device="cpu").predict(study.t2w if sequence == "T2w" else study.cbct)
    body = sitk.GetArrayFromImage(body_mask(study.ct)) > 0
    error = np.abs(sitk.GetArrayFromImage(synthetic).astype(float) - sitk.GetArrayFromImage(study.ct))[body].mean()
    assert values["mean absolute error"] == pytest.approx(error, abs=0.06)
    assert values["PSNR"] == pytest.approx(psnr(study.ct, synthetic, body_mask(study.ct), DGCF_RANGE), abs=0.006)


def test_weights_of_encoder_and_generator_are_all_trained_where_nothing_is_frozen(tmp_path):
    states = []
    for steps in ("1", "3"):
        (tmp_path / steps).mkdir()
        code, path = train(tmp_path / steps, tiny(), "--steps", steps)
        assert code == 0
        states.append(read_checkpoint(path)[1])
    unmoved = {key for key, value in states[0].items() if torch.equal(value, states[1][key])}
    assert unmoved == {"dino_encoder.mask_token", "dino_encoder.rope_embed.periods"} | {
        key for key in states[0] if key.endswith("bias_mask")
    }


def test_a_frozen_encoder_stays_as_it_was_and_the_best_weights_by_ssim_are_kept(tmp_path, encoder_file, data_of_cts):
    recipe = frozen(
        encoder_file,
        settings={"simulated_cbct": 1, "perceptual": {"criterion": "l1"}},
        data=[{"layout": "cases", "path": "cts", "options": {"require": ["ct"]}}],
        split={"rule": "fixed", "validation": ["b"], "test": ["c"]},
        selection={"keep": "best", "metric": "ssim"},
    )
    code, path = train(tmp_path, recipe, data=data_of_cts)
    assert code == 0
    card, state = read_checkpoint(path)
    assert all(torch.equal(state[f"dino_encoder.{key}"], value) for key, value in encoder_file.state.items())
    found = [line for line in logged(path, "ssim")]
    ssim = [next(value for key, value in line.items() if key.endswith("ssim")) for line in found]
    assert len(ssim) == 4  # once an epoch
    assert card.history[-1]["selected"]["value"] == pytest.approx(max(ssim))
    assert {score.data for score in card.scores} == {"CBCT simulated from unseen real CT"}
    (first, *_, last) = logged(path, "perceptual")
    assert last["perceptual"] < first["perceptual"]
    assert last["loss"] == pytest.approx(last["l1"] + last["perceptual"], rel=1e-4)


@pytest.fixture
def data_of_cts(tmp_path):
    """Three CTs a, b, c in folders of their own."""
    for seed, name in enumerate("abc"):
        (tmp_path / "cts" / name).mkdir(parents=True)
        ct = make_phantom(40 + seed).render(CT_GRID, modalities=("ct",)).ct
        write_image(ct, tmp_path / "cts" / name / "ct.nii.gz")
    return tmp_path


def test_stored_features_train_the_model_that_computed_ones_train(tmp_path, encoder_file):
    """The first losses of two runs on the same samples, before rounding has come through Adam's signs."""
    losses = []
    for store in (True, False):
        folder = tmp_path / str(store)
        folder.mkdir()
        code, path = train(folder, frozen(encoder_file, settings={"store_features": store}), "--steps", "2")
        assert code == 0
        losses.append(logged(path, "loss")[0]["loss"])
        assert bool(list(folder.rglob("tokens.npy"))) == store
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_second_stage_goes_on_from_the_first_and_may_begin_its_last_layer_anew(tmp_path, encoder_file):
    recipe = frozen(encoder_file)
    second = {**recipe["stages"][0], "name": "again", "start": {"checkpoint": "{previous}", "drop": ["decoder.out.1"]}}
    second["optimiser"] = {"name": "adamw", "learning_rate": 0.0}
    code, path = train(tmp_path, {**recipe, "stages": [recipe["stages"][0], second]}, "--steps", "2")
    assert code == 0
    folder = path.with_suffix(".run") / "stages"
    before, after = (read_checkpoint(f"{folder}/{name}/final.safetensors")[1] for name in ("01-train", "02-again"))
    moving = {key for key, value in before.items() if not torch.equal(value, after[key])}
    statistics = {key for key in before if "running_" in key or "num_batches" in key}
    assert moving - statistics == {"generator.decoder.out.1.weight", "generator.decoder.out.1.bias"}
    assert [entry["stage"] for entry in load_checkpoint(path).card.history if "stage" in entry] == ["train", "again"]


CHANGES = [
    "stages.train.network.arguments.base_channels=4",
    "stages.train.network.arguments.blocks=null",
    "stages.train.settings.size_yx=[64, 64]",
    "stages.train.loop.workers=0",
    "stages.train.loop.batch_size=2",
]


@pytest.mark.parametrize(
    "name",
    ["mr-to-ct", "cbct-to-ct", "mr-to-ct-multi-resolution", "mr-to-ct-high-frequency", "mr-to-ct-as-released"],
)
def test_the_papers_recipes_run_on_the_data_sets_layout(tmp_path, encoder_file, name):
    task, source = (2, "cbct") if name == "cbct-to-ct" else (1, "mr")
    write_pairs(tmp_path / "SynthRAD2023" / f"Task{task}" / "pelvis", source=source, count=7, task=task)
    changes = [*CHANGES, f"stages.train.start.checkpoint={encoder_file.path}"]
    words = [word for change in changes for word in ("--set", change)]
    code, path = train(tmp_path, f"dgcf/{name}", "--steps", "2", *words)
    assert code == 0
    card = load_checkpoint(path).card
    assert card.inputs == ("CBCT" if task == 2 else "T2w",)
    assert {(score.data, score.cases) for score in card.scores} >= {("test cases", 2)}
    assert card.history[-1]["selected"]["metric"] == "ssim"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": {"architecture": "dgcf"}}, "has no encoder: name a DINOv3 checkpoint"),
        ({"settings": {"perceptual": {}}}, "trains the encoder that its perceptual loss looks through"),
        ({"settings": {"store_features": True}}, "stores features of an encoder that it trains"),
        ({"settings": {"sequence": "ADC"}}, "DGCF translates T2w or CBCT, not 'ADC'"),
        ({"settings": {"size_yx": [50, 48]}}, "give multiples of 16"),
        ({"settings": {"image": "DWI"}}, "Phantoms have no DWI"),
        ({"network": {"architecture": "dgcf", "arguments": {"chanels": 4}}}, "unknown key 'chanels'"),
        ({"network": {"architecture": "mr_dinov3"}}, "makes CT with the architecture dgcf"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_one_sentence_and_leaves_no_file(tmp_path, capsys, changes, sentence):
    code, path = train(tmp_path, tiny(**changes))
    told = capsys.readouterr().err
    assert code == 1
    assert told.splitlines()[-1].startswith("prostatexfer: ")
    assert sentence in told
    assert not path.exists()


def test_a_case_without_cbct_is_refused_unless_it_may_be_simulated(tmp_path, data_of_cts, capsys):
    recipe = tiny(data=[{"layout": "cases", "path": "cts", "options": {"require": ["ct"]}}])
    code, path = train(tmp_path, recipe, data=data_of_cts)
    assert code == 1
    assert "Case 'a' has no CBCT (it has CT)" in capsys.readouterr().err
    assert not path.exists()


def test_scoring_anew_renews_the_card_and_leaves_the_weights_alone(tmp_path):
    code, path = train(tmp_path, tiny(), "--steps", "2")
    assert code == 0
    card, state = read_checkpoint(path)
    write_checkpoint(path, replace(card, scores=(), title="an old title"), state)
    assert train(tmp_path, tiny(), "--score-only") == (0, path)
    renewed, kept = read_checkpoint(path)
    assert renewed == card
    assert all(torch.equal(state[key], kept[key]) for key in state)


def test_the_same_recipe_gives_the_same_weights(tmp_path):
    states = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        code, path = train(tmp_path / name, tiny(), "--steps", "2")
        assert code == 0
        states.append(read_checkpoint(path)[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
