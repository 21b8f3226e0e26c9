# SPDX-License-Identifier: Apache-2.0
"""Whole trainings in miniature, through `prostatexfer train`: the checkpoint loads, works, and says how it was made."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import PROSTATE
from ProstateXferLib.images.whole_structure import whole_structure_mask
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.pipelines.synthesizer import Synthesizer
from ProstateXferLib.training import segmentation_scores, segmentation_stage, synthesis_data, synthesis_stage

yaml = pytest.importorskip("yaml")
pytest.importorskip("monai")

T2W_GRID = Grid((64, 56, 8), (2.0, 2.0, 6.0), (-63.0, -55.0, -21.0))
CT_GRID = Grid((64, 56, 4), (6.0, 6.0, 10.0), (-189.0, -165.0, -15.0))
TEXTS = {"title": "Tiny", "training_data": "phantoms", "licence": "Apache-2.0", "citation": "none"}
RATES = {"learning_rate": 4e-3, "encoder_learning_rate": 4e-3, "warmup_steps": 5, "ema": 0.8, "bf16": False}
SEGMENTATION = {
    "kind": "segmentation",
    "name": "tiny-gland",
    "seed": 3,
    "texts": TEXTS,
    "encoder": {"width": 32, "depth": 4, "heads": 2, "layer_scale": 1.0},
    "spacing_mm": 2.0,
    "crops": {"size": 48, "rotation_deg": 0.0, "scale": [1.0, 1.0], "shift": 3.0, "elastic_px": 0.0},
    "paint_share": 0.2,
    "glands": {"weight": 1.0, "folder": "cases", "held_out": ["case-2"]},
    "test_folders": ["others"],
    "schedule": {"steps": 100, "batch_size": 4, **RATES},
}
SYNTHESIS = {
    "kind": "synthesis",
    "name": "tiny-cbct",
    "seed": 3,
    "texts": TEXTS,
    "encoder": {"width": 32, "depth": 4, "heads": 2},
    "base_channels": 4,
    "sequence": "CBCT",
    "size": 48,
    "phantoms": {"weight": 0.5, "first_seed": 11, "count": 1},
    "ct_folders": ["cts/a"],
    "ct_weight": 0.5,
    "test_seeds": [21],
    "schedule": {"steps": 25, "batch_size": 2, **RATES},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two folders of coarse phantoms as cases, and one CT."""
    root = tmp_path_factory.mktemp("data")
    for folder, seeds in (("cases", (1, 2, 3)), ("others", (4,))):
        for seed in seeds:
            study = make_phantom(seed).render(T2W_GRID, modalities=("t2w",))
            case = root / folder / f"case-{seed}"
            case.mkdir(parents=True)
            write_image(study.t2w, case / "t2w.nii.gz")
            write_image(sitk.Cast(study.labels > 0, sitk.sitkUInt8), case / "gland.nii.gz")
    (root / "cts" / "a").mkdir(parents=True)
    write_image(make_phantom(5).render(CT_GRID, modalities=("ct",)).ct, root / "cts" / "a" / "ct.nii.gz")
    return root


class Coarse:
    """A phantom that renders on the tests' grid."""

    def __init__(self, phantom):
        self.phantom = phantom

    def render(self, **options):
        return self.phantom.render(T2W_GRID, **options)


@pytest.fixture(scope="module", autouse=True)
def coarse_phantoms():
    """Phantoms of the segmentation stage and its scores, small enough for a test."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (segmentation_stage, segmentation_scores):
            patch.setattr(module, "make_phantom", lambda seed, **options: Coarse(make_phantom(seed, **options)))
        yield


@pytest.fixture
def coarse(monkeypatch):
    """Planning grids of the synthesis stage, small enough for a test."""
    for module in (synthesis_stage, synthesis_data):
        monkeypatch.setattr(module, "default_ct_grid", lambda: CT_GRID)


def train(folder, recipe, data, *words, name="made.safetensors"):
    """Exit code and path of `prostatexfer train`."""
    path = folder / f"{recipe['name']}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    output = folder / name
    words = ["train", str(path), "-o", str(output), "--data", str(data), "--device", "cpu", *words]
    return main(words), output


def events(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(scope="module")
def gland_model(tmp_path_factory, data):
    code, path = train(tmp_path_factory.mktemp("gland"), SEGMENTATION, data)
    assert code == 0
    return path


def whole_gland_dice(segmenter, case):
    found = segmenter.predict(read_image(case / "t2w.nii.gz"))
    labels = whole_structure_mask(sitk.GetArrayFromImage(found.labels), PROSTATE, found.structures)
    truth = sitk.GetArrayFromImage(read_image(case / "gland.nii.gz")) > 0
    return 2 * (labels & truth).sum() / (labels.sum() + truth.sum())


def test_a_gland_model_is_trained_scored_on_unseen_cases_and_ready_to_use(gland_model, data):
    card = load_checkpoint(gland_model).card
    assert (card.name, card.task, card.title, card.licence) == ("tiny-gland", "segmentation", "Tiny", "Apache-2.0")
    assert card.history == ({"stage": "tiny-gland", "steps": 100, "of": 100, "seed": 3},)
    assert [(head.name, head.within, head.largest_only) for head in card.heads] == [
        ("gland", None, True),
        ("dil", "Prostate", False),
    ]
    assert card.preprocessing.tile_yx == (48, 48)
    assert card.preprocessing.spacing_yx_mm == (2.0, 2.0)
    assert [(score.data, score.cases) for score in card.scores] == [
        ("cases, held out", 1),
        ("others", 1),
        *[("unseen phantoms", len(segmentation_scores.PHANTOM_SEEDS))] * 2,
    ]
    segmenter = Segmenter(gland_model, device="cpu")
    for score, case in zip(card.scores, ("cases/case-2", "others/case-4"), strict=False):
        assert score.value == pytest.approx(whole_gland_dice(segmenter, data / case), abs=1e-4)
    assert card.scores[0].value > 0.2  # two cases, a hundred steps: that it learns, no more


def test_its_weights_are_stored_in_half_precision_and_are_finite(gland_model):
    _, state = read_checkpoint(gland_model)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in state.values())


def test_the_loss_falls_and_the_result_is_told_as_json(tmp_path, data, capsys):
    recipe = {**SEGMENTATION, "test_folders": []}
    code, path = train(tmp_path, recipe, data, "--json", "--steps", "45")
    told = events(capsys)
    losses = [float(e["message"].rsplit("loss ", 1)[1]) for e in told if e["event"] == "progress"]
    assert code == 0
    assert losses[-1] < 0.9 * losses[0]
    assert told[-1]["event"] == "result"
    assert told[-1]["checkpoint"] == str(path)
    assert [score["data"] for score in told[-1]["scores"]] == ["cases, held out", *["unseen phantoms"] * 2]
    assert load_checkpoint(path).card.history[0]["of"] == 45


def test_phantom_scores_are_the_means_over_phantoms_that_no_recipe_trains_on(gland_model):
    gland_score, lesion_score = load_checkpoint(gland_model).card.scores[2:]
    segmenter, glands, lesions = Segmenter(gland_model, device="cpu"), [], []
    for seed in segmentation_scores.PHANTOM_SEEDS:
        study = make_phantom(seed).render(T2W_GRID, modalities=("t2w",))
        found = segmenter.predict(study.t2w)
        labels, truth = sitk.GetArrayFromImage(found.labels), sitk.GetArrayFromImage(study.labels)
        gland = whole_structure_mask(labels, PROSTATE, found.structures)
        glands.append(2 * (gland & (truth > 0)).sum() / (gland.sum() + (truth > 0).sum()))
        both = (labels == 2).sum() + (truth == 2).sum()
        lesions.append(2 * ((labels == 2) & (truth == 2)).sum() / both)
        assert seed >= 900000
    assert gland_score.value == pytest.approx(np.mean(glands), abs=1e-4)
    assert lesion_score.value == pytest.approx(np.mean(lesions), abs=1e-4)


def test_scoring_anew_renews_the_card_and_leaves_the_weights_alone(tmp_path, data, gland_model):
    path = tmp_path / "made.safetensors"
    card, state = read_checkpoint(gland_model)
    write_checkpoint(path, dataclasses.replace(card, scores=(), title="an old title"), state)
    assert train(tmp_path, SEGMENTATION, data, "--score-only") == (0, path)
    renewed, kept = read_checkpoint(path)
    assert renewed == card
    assert all(torch.equal(state[key], kept[key]) for key in state)


def test_scoring_refuses_what_it_cannot_score_and_leaves_it_as_it_is(
    tmp_path, data, capsys, random_state, segmentation_card, pointwise_state, synthesis_card
):
    for card, state in ((segmentation_card("gland"), random_state()), (synthesis_card(), pointwise_state())):
        path = write_checkpoint(tmp_path / "made.safetensors", card, state)
        before = path.read_bytes()
        assert train(tmp_path, SEGMENTATION, data, "--score-only")[0] == 1
        assert "'tiny' has not the heads gland, dil that this recipe scores" in capsys.readouterr().err
        assert path.read_bytes() == before
    path = write_checkpoint(tmp_path / "made.safetensors", segmentation_card("gland"), random_state())
    assert train(tmp_path, SYNTHESIS, data, "--score-only")[0] == 1
    assert "'tiny' makes no CT from" in capsys.readouterr().err
    assert train(tmp_path, SEGMENTATION, data, "--score-only", name="absent.safetensors")[0] == 1
    assert "absent.safetensors" in capsys.readouterr().err


def test_held_out_and_test_cases_are_never_trained_on(tmp_path, data, monkeypatch):
    seen, real = [], segmentation_stage.prepare_study
    monkeypatch.setattr(
        segmentation_stage, "prepare_study", lambda name, *args, **kw: seen.append(name) or real(name, *args, **kw)
    )
    assert train(tmp_path, SEGMENTATION, data, "--steps", "1")[0] == 0
    assert seen == ["case-1", "case-3"]


def test_the_same_recipe_gives_the_same_weights(tmp_path, data):
    states = []
    for name in ("a.safetensors", "b.safetensors"):
        code, path = train(tmp_path, SEGMENTATION, data, "--steps", "3", name=name)
        assert code == 0
        states.append(read_checkpoint(path)[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_stage_can_start_from_a_checkpoint_with_its_encoder_frozen(tmp_path, data, gland_model):
    frozen = {**SEGMENTATION["schedule"], "steps": 3, "encoder_learning_rate": 0.0}
    recipe = {**SEGMENTATION, "name": "second", "start": str(gland_model), "schedule": frozen}
    code, path = train(tmp_path, recipe, data)
    assert code == 0
    before, after = read_checkpoint(gland_model)[1], read_checkpoint(path)[1]
    encoder = [key for key in before if key.startswith("dino_encoder.")]
    assert all(torch.equal(before[key], after[key]) for key in encoder)
    assert any(not torch.equal(before[key], after[key]) for key in before if key not in encoder)
    history = load_checkpoint(path).card.history
    assert [entry.get("stage") for entry in history] == ["tiny-gland", None, "second"]
    assert history[1] == {"start": "tiny-gland", "sha256": load_checkpoint(gland_model).sha256}


def test_phantoms_alone_are_enough_and_show_lesions(tmp_path, data, monkeypatch):
    studies, real = [], segmentation_stage.segmentation_batches

    def batches(sources, **options):
        studies.extend(study for _, part in sources for study in part)
        return real(sources, **options)

    monkeypatch.setattr(segmentation_stage, "segmentation_batches", batches)
    recipe = {key: value for key, value in SEGMENTATION.items() if key not in ("glands", "test_folders")}
    recipe["phantoms"] = {"weight": 1.0, "first_seed": 7, "count": 2}
    code, path = train(tmp_path, recipe, data, "--steps", "1")
    assert code == 0
    assert {score.data for score in load_checkpoint(path).card.scores} == {"unseen phantoms"}
    assert [study.name for study in studies] == ["phantom 7", "phantom 8"]
    assert all(set(np.unique(study.labels)) == {0, 1, 2} and not study.paint for study in studies)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"glands": {"weight": 1.0, "folder": "nowhere"}}, "There is no data folder"),
        ({"glands": {"weight": 1.0, "folder": "cts"}}, "holds no case"),
        (
            {"glands": {"weight": 1.0, "folder": "cases", "held_out": ["case-9"]}},
            "Held-out case(s) case-9 are not in 'cases'",
        ),
        ({"glands": None}, "Recipe 'tiny-gland' has neither gland cases nor phantoms to train on"),
        ({"start": "no-such-model"}, "There is no model named 'no-such-model'"),
        ({"encoder": {"width": 32, "depth": 4, "heads": 3}}, "cannot have 3 heads"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_one_sentence_and_leaves_no_file(tmp_path, data, capsys, changes, sentence):
    code, path = train(tmp_path, {**SEGMENTATION, **changes}, data)
    told = capsys.readouterr().err
    assert code == 1
    assert told.splitlines()[-1].startswith("prostatexfer: ")
    assert sentence in told
    assert not path.exists()


def test_a_start_with_other_heads_is_refused(tmp_path, data, capsys, random_state, segmentation_card):
    start = write_checkpoint(tmp_path / "start.safetensors", segmentation_card("gland"), random_state())
    code, _ = train(tmp_path, {**SEGMENTATION, "start": str(start)}, data)
    assert code == 1
    assert "'tiny' has not the heads gland, dil that this recipe trains" in capsys.readouterr().err


@pytest.mark.parametrize("sequence", ["CBCT", "T2w"])
def test_a_synthesis_model_is_trained_scored_on_an_unseen_phantom_and_ready_to_use(
    tmp_path, data, coarse, capsys, sequence
):
    recipe = {**SYNTHESIS, "sequence": sequence}
    if sequence == "T2w":
        recipe |= {"ct_folders": [], "phantoms": {"weight": 1.0, "first_seed": 11, "count": 2}}
    code, path = train(tmp_path, recipe, data, "--json")
    told = events(capsys)
    losses = [float(e["message"].rsplit("loss ", 1)[1]) for e in told if e["event"] == "progress"]
    assert code == 0
    assert losses[-1] < losses[0]
    card = load_checkpoint(path).card
    assert (card.task, card.inputs, card.hu_range) == ("synthesis", (sequence,), (-1024.0, 2000.0))
    assert card.preprocessing.resize_yx == (48, 48)
    (score,) = card.scores
    assert (score.data, score.cases) == ("unseen phantoms", 1)
    study = make_phantom(21).render(CT_GRID, modalities=("t2w" if sequence == "T2w" else "cbct", "ct"))
    synthetic = Synthesizer(path, device="cpu").predict(study.t2w if sequence == "T2w" else study.cbct)
    body = sitk.GetArrayFromImage(body_mask(study.ct)) > 0
    error = np.abs(sitk.GetArrayFromImage(synthetic).astype(float) - sitk.GetArrayFromImage(study.ct))[body].mean()
    assert score.value == pytest.approx(error, abs=0.06)
    assert told[-1]["scores"] == [{"metric": score.metric, "value": score.value, "data": score.data, "cases": 1}]


def test_a_missing_ct_folder_is_one_sentence(tmp_path, data, coarse, capsys):
    code, path = train(tmp_path, {**SYNTHESIS, "ct_folders": ["cts/b"]}, data)
    assert code == 1
    assert "There is no CT" in capsys.readouterr().err
    assert not path.exists()
