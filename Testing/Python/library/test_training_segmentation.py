# SPDX-License-Identifier: Apache-2.0
"""Whole segmentation trainings in miniature: the checkpoint loads, works, and says how it was made."""

import copy
import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from training_runs.command import logged, train

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.training.cache.phantom_case import render_phantom
from ProstateXferLib.training.datasets.case import Case

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")

T2W_GRID = Grid((64, 56, 8), (2.0, 2.0, 6.0), (-63.0, -55.0, -21.0))
TINY = {
    "name": "tiny-gland",
    "seed": 3,
    "store": "fp16",
    "texts": {"title": "Tiny", "training_data": "phantoms", "licence": "Apache-2.0", "citation": "none"},
    "stages": [
        {
            "name": "train",
            "task": "segmentation",
            "settings": {
                "heads": [
                    {"name": "gland", "values": ["Prostate"], "smoothing_mm": 3.0, "largest_only": True},
                    {"name": "dil", "values": ["DIL"], "within": "Prostate", "margin_mm": 5.0},
                ],
                "preprocessing": {"intensity": {"kind": "zscore"}, "spacing_yx_mm": [2.0, 2.0], "tile_yx": [48, 48]},
                "slices": {
                    "foreground_share": 0.5,
                    "even_cases": True,
                    "warp": {"size": 48, "rotation_deg": 0, "scale": [1, 1], "shift": 3, "elastic_px": 0},
                },
                "tokens": {"far": 0.3, "empty": 0.6},
                "paint": {"share": 0.2},
            },
            "network": {
                "architecture": "mr_dinov3",
                "arguments": {"encoder": {"width": 32, "depth": 4, "heads": 2, "layer_scale": 1.0}},
            },
            "data": [
                {"layout": "cases", "path": "cases"},
                {"layout": "cases", "path": "others", "test_only": True},
                {"layout": "phantoms", "options": {"first_seed": 900001, "count": 2}, "test_only": True},
            ],
            "split": {"rule": "fixed", "test": ["case-2"]},
            "optimiser": {"learning_rate": 4.0e-3, "betas": [0.9, 0.98], "clip_norm": 1.0},
            "schedule": {"epochs": 1, "steps_per_epoch": 100, "warmup_epochs": 0.05},
            "loop": {"batch_size": 4, "ema": 0.8},
        }
    ],
}


@pytest.fixture(scope="module", autouse=True)
def coarse_phantoms():
    """Phantoms that are rendered small enough for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ProstateXferLib.training.cache.phantom_case.default_grid", lambda: T2W_GRID)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two folders of coarse phantoms as cases: "cases" and "others" without, "lesions" with lesion labels."""
    root = tmp_path_factory.mktemp("data")
    for folder, seeds in (("cases", (1, 2, 3)), ("others", (4,)), ("lesions", (5, 6, 7))):
        for seed in seeds:
            study = make_phantom(seed).render(T2W_GRID, modalities=("t2w",))
            case = root / folder / f"case-{seed}"
            case.mkdir(parents=True)
            write_image(study.t2w, case / "t2w.nii.gz")
            write_image(sitk.Cast(study.labels > 0, sitk.sitkUInt8), case / "gland.nii.gz")
            if folder == "lesions":
                write_image(sitk.Cast(study.labels == DIL.value, sitk.sitkUInt8), case / "lesion.nii.gz")
    return root


def tiny(**changes):
    """The tiny recipe with keys of its stage replaced; settings are merged."""
    recipe = copy.deepcopy(TINY)
    stage = recipe["stages"][0]
    stage["settings"] |= changes.pop("settings", {})
    stage |= changes
    return recipe


@pytest.fixture(scope="module")
def gland_model(tmp_path_factory, data):
    code, path = train(tmp_path_factory.mktemp("gland"), TINY, data=data)
    assert code == 0
    return path


def overlap(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def whole_gland_dice(segmenter, case):
    found = segmenter.predict(read_image(case / "t2w.nii.gz"))
    labels = whole_structure_mask(sitk.GetArrayFromImage(found.labels), PROSTATE, found.structures)
    return overlap(labels, sitk.GetArrayFromImage(read_image(case / "gland.nii.gz")) > 0)


def test_a_gland_model_is_trained_scored_on_unseen_cases_and_ready_to_use(gland_model, data):
    card = load_checkpoint(gland_model).card
    assert (card.name, card.task, card.title, card.licence) == ("tiny-gland", "segmentation", "Tiny", "Apache-2.0")
    assert [(entry["stage"], entry["steps"], entry["seed"]) for entry in card.history] == [("train", 100, 3)]
    assert [(head.name, head.values, head.within, head.largest_only) for head in card.heads] == [
        ("gland", (1,), None, True),
        ("dil", (2,), "Prostate", False),
    ]
    assert card.preprocessing.tile_yx == (48, 48)
    assert card.preprocessing.spacing_yx_mm == (2.0, 2.0)
    assert [(score.metric, score.data, score.cases) for score in card.scores] == [
        ("mean whole-gland Dice", "cases, held out", 1),
        ("mean whole-gland Dice", "others", 1),
        ("mean whole-gland Dice", "unseen phantoms", 2),
        ("mean DIL Dice (phantom lesions, not patients)", "unseen phantoms", 2),
    ]
    segmenter = Segmenter(gland_model, device="cpu")
    for score, case in zip(card.scores, ("cases/case-2", "others/case-4"), strict=False):
        assert score.value == pytest.approx(whole_gland_dice(segmenter, data / case), abs=1e-4)
    assert sum(score.value for score in card.scores[:2]) / 2 > 0.2  # two cases, a hundred steps: that it learns


def test_its_weights_are_stored_in_half_precision_and_are_finite(gland_model):
    _, state = read_checkpoint(gland_model)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in state.values())


def test_the_loss_falls_and_is_logged_by_head(gland_model):
    lines = logged(gland_model, "loss_")
    assert {"loss", "loss_gland", "loss_dil"} <= set(lines[0])
    assert all(line["loss"] == pytest.approx(line["loss_gland"] + line["loss_dil"], abs=1e-4) for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1


def test_phantom_scores_are_the_means_over_the_phantoms_of_the_recipe(gland_model):
    gland_score, lesion_score = load_checkpoint(gland_model).card.scores[2:]
    segmenter, glands, lesions = Segmenter(gland_model, device="cpu"), [], []
    for seed in (900001, 900002):
        case = Case("p", "p", {}, attributes={"phantom_seed": seed})
        (image,), truth = render_phantom(case, ["T2w"], ["Prostate", "DIL"])
        found = segmenter.predict(image)
        labels = sitk.GetArrayFromImage(found.labels)
        glands.append(overlap(whole_structure_mask(labels, PROSTATE, found.structures), truth["Prostate"]))
        lesions.append(overlap(labels == 2, truth["DIL"]))
    assert gland_score.value == pytest.approx(np.mean(glands), abs=1e-4)
    assert lesion_score.value == pytest.approx(np.mean(lesions), abs=1e-4)


def test_scoring_anew_renews_the_card_and_leaves_the_weights_alone(tmp_path, data, gland_model):
    path = tmp_path / "made.safetensors"
    card, state = read_checkpoint(gland_model)
    write_checkpoint(path, dataclasses.replace(card, scores=(), title="an old title"), state)
    assert train(tmp_path, TINY, "--score-only", data=data) == (0, path)
    renewed, kept = read_checkpoint(path)
    assert renewed == card
    assert all(torch.equal(state[key], kept[key]) for key in state)


def test_held_out_and_test_cases_are_not_prepared_for_training(tmp_path, data, monkeypatch):
    from ProstateXferLib.training.tasks import segmentation_preparation

    seen, real = [], segmentation_preparation.prepared_cases

    def noted(cases, *args, **options):
        seen.extend(case.case_id for case in cases)
        return real(cases, *args, **options)

    monkeypatch.setattr(segmentation_preparation, "prepared_cases", noted)
    assert train(tmp_path, tiny(data=TINY["stages"][0]["data"][:2]), "--steps", "1", data=data)[0] == 0
    assert seen == ["case-1", "case-3"]


def test_the_same_recipe_gives_the_same_weights(tmp_path, data):
    recipe, states = tiny(data=TINY["stages"][0]["data"][:1]), []
    for name in ("a.safetensors", "b.safetensors"):
        code, path = train(tmp_path, recipe, "--steps", "3", data=data, name=name)
        assert code == 0
        states.append(read_checkpoint(path)[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


FROZEN = {
    "network": {"architecture": "mr_dinov3"},
    "groups": [{"match": ["dino_encoder"], "frozen": True}],
    "data": [{"layout": "cases", "path": "cases"}],
}


@pytest.mark.parametrize("features", [None, {"views": 1}], ids=["images", "cached tokens"])
def test_a_stage_can_start_from_a_checkpoint_with_its_encoder_frozen(tmp_path, data, gland_model, features):
    settings = {"features": features, "paint": None, "heads": TINY["stages"][0]["settings"]["heads"][:1]}
    recipe = tiny(**FROZEN, settings=settings, start={"checkpoint": str(gland_model), "drop": ["up_projection.dil"]})
    code, path = train(tmp_path, recipe | {"store": "fp32"}, "--steps", "3", data=data)
    assert code == 0
    before, after = read_checkpoint(gland_model)[1], read_checkpoint(path)[1]
    encoder = [key for key in after if key.startswith("dino_encoder.")]
    assert all(torch.equal(before[key].float(), after[key]) for key in encoder)
    heads = [key for key in after if key not in encoder]
    assert heads
    assert all(not torch.equal(before[key].float(), after[key]) for key in heads)
    assert [entry["stage"] for entry in load_checkpoint(path).card.history] == ["train", "train"]


def test_features_of_an_encoder_that_learns_are_not_cached(tmp_path, data, gland_model, capsys):
    changes = {"groups": [], "data": [{"layout": "cases", "path": "lesions"}], "split": {"rule": "none"}}
    recipe = tiny(
        **FROZEN | changes,
        settings={"features": {}, "paint": None},
        start={"checkpoint": str(gland_model)},
    )
    assert train(tmp_path, recipe, data=data)[0] == 1
    assert "freeze dino_encoder in groups" in capsys.readouterr().err


def test_phantoms_alone_are_enough(tmp_path, data):
    recipe = tiny(data=[{"layout": "phantoms", "options": {"first_seed": 7, "count": 2}}], split={"rule": "none"})
    assert train(tmp_path, recipe, "--steps", "1", data=data)[0] == 0


UNET = {
    "architecture": "plain_conv_unet",
    "arguments": {"base_features": 4, "max_features": 8},
}


@pytest.mark.parametrize("architecture", ["plain_conv_unet", "residual_encoder_unet"])
def test_a_planned_unet_learns_glands_and_lesions_and_is_validated_on_whole_cases(tmp_path, data, architecture):
    pytest.importorskip("monai")
    recipe = tiny(
        settings={"slices": None, "patches": {}, "augmentation": "nnunet", "paint": None, "tokens": {}},
        network=UNET | {"architecture": architecture},
        data=[{"layout": "cases", "path": "lesions"}],
        split={"rule": "fixed", "validation": ["case-6"]},
        optimiser={"name": "sgd", "learning_rate": 0.01, "momentum": 0.99, "weight_decay": 3e-5, "clip_norm": 12},
        schedule={"epochs": 2, "steps_per_epoch": 3, "decay": "polynomial"},
        selection={"keep": "best", "metric": "dice"},
    )
    code, path = train(tmp_path, recipe, data=data)
    assert code == 0
    card = load_checkpoint(path).card
    assert card.arguments["num_classes"] == 4
    values = logged(path, "dice")
    assert [line["step"] for line in values] == [3, 6]
    assert set(values[0]) >= {"dice", "dice_prostate", "dice_dil"}
    assert values[0]["dice"] == pytest.approx((values[0]["dice_prostate"] + values[0]["dice_dil"]) / 2)
    assert Segmenter(path, device="cpu").predict(read_image(data / "lesions/case-5/t2w.nii.gz")).labels is not None


def test_a_3d_unet_learns_from_patches(tmp_path, data):
    recipe = tiny(
        settings={
            "slices": None,
            "patches": {"oversample": 0.5},
            "preprocessing": {
                "intensity": {"kind": "zscore"},
                "spacing_zyx_mm": [6.0, 4.0, 4.0],
                "tile_zyx": [8, 16, 16],
            },
            "paint": None,
            "tokens": {},
            "loss": {"batch_dice": False},
        },
        network=UNET,
        data=[{"layout": "cases", "path": "lesions"}],
        split={"rule": "fixed", "validation": ["case-6"]},
        schedule={"epochs": 1, "steps_per_epoch": 2},
        loop={"batch_size": 2},
    )
    code, path = train(tmp_path, recipe, data=data)
    assert code == 0
    assert "dice" in logged(path, "dice")[0]
    assert load_checkpoint(path).card.preprocessing.tile_zyx == (8, 16, 16)


def test_the_mean_and_deviation_of_the_training_slices_go_into_the_card(tmp_path, data):
    recipe = tiny(
        settings={
            "preprocessing": {"intensity": {"kind": "standardise", "mean": 0, "deviation": 1}, "tile_yx": [64, 64]},
            "training_statistics": True,
            "slices": {"minimum_pixels": 60, "multiple": 32},
            "validation": {"slices_above_pixels": 60},
            "tokens": {},
            "paint": None,
        },
        data=[{"layout": "cases", "path": "lesions"}],
        split={"rule": "fixed", "validation": ["case-6"]},
        schedule={"epochs": 1, "steps_per_epoch": 1},
    )
    code, path = train(tmp_path, recipe, data=data)
    assert code == 0
    values = []
    for case in ("case-5", "case-7"):
        image, gland = (
            sitk.GetArrayFromImage(read_image(data / "lesions" / case / f"{n}.nii.gz")) for n in ("t2w", "gland")
        )
        values.append(image[(gland > 0).sum((1, 2)) > 60].astype(np.float64).ravel())
    values = np.concatenate(values)
    rule = load_checkpoint(path).card.preprocessing.intensity
    assert rule.mean == pytest.approx(values.mean(), rel=1e-6)
    assert rule.deviation == pytest.approx(values.std(), rel=1e-6)
    assert {"slice_dice", "slice_iou", "slice_dice_prostate"} <= set(logged(path, "slice")[0])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": [{"layout": "cases", "path": "nowhere"}]}, "there is no data folder"),
        ({"split": {"rule": "fixed", "test": ["case-9"]}}, "The split names 'case-9'"),
        ({"start": {"checkpoint": "no-such-model"}}, "There is no model named 'no-such-model'"),
        (
            {"network": {"architecture": "mr_dinov3", "arguments": {"encoder": {"width": 32, "depth": 4, "heads": 3}}}},
            "cannot have 3 heads",
        ),
        ({"network": {"architecture": "mr_dinov3"}}, "encoder comes from a checkpoint"),
        ({"settings": {"patches": {}}}, "give exactly one of them"),
        ({"settings": {"paint": {"within": "Bladder"}}}, "'Bladder' is named, but no head finds it"),
        ({"settings": {"augmentation": "nnunet"}}, "warp is an augmentation of its own"),
        ({"settings": {"loss": {"batch_dice": False}}}, "needs batch_dice: true"),
        ({"settings": {"sequences": ["T2w", "ADC"]}}, "ADC"),
        ({"settings": {"training_statistics": True}}, "rule 'standardise'"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_one_sentence_and_leaves_no_file(tmp_path, data, capsys, changes, sentence):
    code, path = train(tmp_path, tiny(**changes), data=data)
    told = capsys.readouterr().err
    assert code == 1
    assert told.splitlines()[-1].startswith("prostatexfer: ")
    assert sentence in told
    assert not path.exists()


def test_weights_of_a_start_that_have_no_place_are_refused(tmp_path, data, gland_model, capsys):
    settings = {"paint": None, "heads": TINY["stages"][0]["settings"]["heads"][:1]}
    recipe = tiny(**FROZEN, settings=settings, start={"checkpoint": str(gland_model)})
    assert train(tmp_path, recipe, data=data)[0] == 1
    assert "has the weight 'up_projection.dil" in capsys.readouterr().err
