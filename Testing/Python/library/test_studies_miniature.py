# SPDX-License-Identifier: Apache-2.0
"""The miniature study: tables say what the scores say, words no more than the tests, and it runs and goes on."""

import dataclasses
import math

import numpy as np
import pytest

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.studies.miniature.case_scores import CaseScore, read_scores, score_gland, write_scores
from ProstateXferLib.studies.miniature.document import study_page
from ProstateXferLib.studies.miniature.plan import ARMS, CV_NAME, ENCODERS, TEST_NAME
from ProstateXferLib.studies.miniature.reading import reading
from ProstateXferLib.studies.miniature.tables import comparisons, dice_table, millimetre_table

NAMES = {arm.name: arm.title for arm in ARMS}


def scores_of(arm, values, data=CV_NAME):
    return [CaseScore(arm, 0, data, f"case {i:02}", value, 2.0, 4.0, -1.0) for i, value in enumerate(values)]


BETTER = scores_of("mr-frozen", np.linspace(0.80, 0.90, 12)) + scores_of("base-frozen", np.linspace(0.70, 0.81, 12))
EQUAL = scores_of("mr-frozen", [0.8, 0.7, 0.6, 0.9]) + scores_of("base-frozen", [0.7, 0.8, 0.7, 0.8])


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_dice_table_has_the_arms_own_numbers_and_the_papers_beside():
    header, _, *rows = rows_of(dice_table(scores_of("unet", [0.5, 0.7, 0.9]), NAMES, CV_NAME))
    (row,) = rows
    told = dict(zip(header, row, strict=True))
    assert told["mean Dice"] == "0.700"
    assert (told["median"], told["SD"], told["lowest"], told["cases"]) == ("0.700", "0.200", "0.500", "3")
    assert told["paper: mean / median"] == "0.8645 / 0.902"


def test_an_arm_that_the_paper_does_not_have_gets_none_of_its_numbers():
    assert rows_of(dice_table(scores_of("random-frozen", [0.5]), NAMES, CV_NAME))[2][-1] == "–"


def test_millimetres_are_told_as_medians_and_only_where_they_exist():
    there = scores_of("unet", [0.5, 0.7], TEST_NAME)
    gone = [dataclasses.replace(s, centroid_distance_mm=math.nan, hd95_mm=math.nan) for s in there[:1]] + there[1:]
    *_, row = rows_of(millimetre_table(gone, NAMES, TEST_NAME))
    assert row[1].startswith("2.0 (") or row[1].startswith("2.0")
    assert row[-1] == "1 of 2"


def test_the_words_call_better_what_the_test_calls_better():
    arms = {name: NAMES[name] for name in ("base-frozen", "mr-frozen")}
    text = reading(BETTER, comparisons(BETTER, arms, CV_NAME), arms, CV_NAME)
    assert "frozen MR-adapted encoder is better than frozen CT encoder" in text
    assert "falls in the order frozen MR-adapted encoder, frozen CT encoder" in text


def test_the_words_claim_nothing_where_the_test_shows_nothing():
    arms = {name: NAMES[name] for name in ("base-frozen", "mr-frozen")}
    text = reading(EQUAL, comparisons(EQUAL, arms, CV_NAME), arms, CV_NAME)
    assert "is better than" not in text
    assert "No difference is shown" in text
    assert "4 cases are too few" in text


def test_scores_survive_their_file(tmp_path):
    scores = [*BETTER, dataclasses.replace(BETTER[0], case_id="none", hd95_mm=math.nan)]
    again = read_scores(write_scores(tmp_path / "scores.csv", scores))
    assert again[:-1] == scores[:-1]
    assert math.isnan(again[-1].hd95_mm)


def test_a_gland_is_scored_in_physical_space():
    """A box found one voxel to the left: centroid 0.8 mm off, and Dice 2·(9/10) / 2."""
    grid = Grid((20, 20, 10), (0.8, 1.0, 3.0))
    truth, found = np.zeros(grid.shape_zyx, np.uint8), np.zeros(grid.shape_zyx, bool)
    truth[2:8, 5:15, 5:15], found[2:8, 5:15, 4:14] = 1, True
    reference = grid.image(truth)
    score = score_gland(reference, found, arm="unet", fold=0, data=TEST_NAME, case_id="a", true_mm=True)
    assert score.dice == pytest.approx(0.9)
    assert score.centroid_distance_mm == pytest.approx(0.8)
    assert score.hd95_mm == pytest.approx(0.8)
    assert score.volume_error_cm3 == pytest.approx(0)
    nominal = score_gland(reference, found, arm="unet", fold=0, data=CV_NAME, case_id="a", true_mm=False)
    assert nominal.dice == score.dice
    assert math.isnan(nominal.centroid_distance_mm)
    assert math.isnan(nominal.volume_error_cm3)


def test_the_page_says_what_it_does_not_show():
    page = study_page([*BETTER, *scores_of("mr-frozen", [0.5], TEST_NAME)], [], command="x", figure="f.png")
    assert "![Dice of every case, by arm](f.png)" in page
    for words in ("## What this does not show", "Research use only", "nominal millimetres", "drawn by an AI"):
        assert words in page


@pytest.fixture
def tiny_recipes(monkeypatch):
    """The study's own recipes with everything that costs time made small."""
    from ProstateXferLib.studies.miniature import run
    from ProstateXferLib.training.recipe.reading import read_recipe

    small = {
        "encoder": [
            "stages.0.settings.heads={prototypes: 16, hidden: 16, bottleneck: 8}",
            "stages.0.settings.crops=[{large: 32, small: 16}]",
            "stages.0.settings.views={small_count: 2}",
            "stages.0.network.arguments={width: 16, depth: 4, heads: 1, layer_scale_start: 0.1}",
            "stages.0.loop.batch_size=4",
        ],
        "arm": [
            "stages.0.settings.preprocessing.tile_yx=[32, 32]",
            "stages.0.settings.preprocessing.spacing_yx_mm=[2.5, 2.5]",
            "stages.0.settings.slices.warp.size=32",
            "stages.0.loop.batch_size=2",
        ],
        "random": ["stages.0.network.arguments.encoder={width: 16, depth: 4, heads: 1}"],
        "unet": ["stages.0.network.arguments={base_features: 4, max_features: 8}"],
    }

    def read(name, *, changes=(), **options):
        more = list(small["encoder" if name.endswith("encoder") else "arm"])
        more += small["random"] if "random" in name else small["unet"] if "unet" in name else []
        if name.endswith("mr-encoder"):
            more = [change for change in more if "network.arguments" not in change]
            more.append("stages.0.network.arguments={}")
        if "frozen" in name:
            more.append("stages.0.settings.features.views=1")
        return read_recipe(name, changes=[*more, *changes], **options)

    monkeypatch.setattr(run, "read_recipe", read)


@pytest.fixture
def tiny_data(tmp_path):
    """Five labelled, one unlabelled and one test patient, a CT and an MR: where the study looks for them."""
    from dataset_trees import gland_labels, image_array
    from dataset_trees.volumes import write

    data = tmp_path / "data"
    for seed in range(5):
        write(image_array(seed), data / f"promise12/train/p{seed}/t2w.nii.gz")
        write(gland_labels(), data / f"promise12/train/p{seed}/gland.nii.gz")
    write(image_array(7), data / "promise12/unlabelled/u0/t2w.nii.gz")
    write(image_array(8), data / "real/prostate_t2w/r0/t2w.nii.gz")
    write(gland_labels(), data / "real/prostate_t2w/r0/gland.nii.gz")
    write(image_array(9), data / "real/ct_mr/c0/ct.nii.gz")
    write(image_array(10), data / "real/ct_mr/m0/mr.nii.gz")
    return data


@pytest.mark.slow
def test_the_study_runs_from_images_to_page_and_does_nothing_twice(tmp_path, tiny_recipes, tiny_data, capsys):
    pytest.importorskip("lightning_fabric")
    from ProstateXferLib.cli.main import main

    words = ["study", "miniature", "-o", tmp_path / "study", "--data", tiny_data, "--device", "cpu", "--folds", 2]
    words = [str(word) for word in (*words, "--steps", 2, "--page", tmp_path / "results.md")]
    assert main(words) == 0
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert page == (tmp_path / "study/results.md").read_text(encoding="utf-8")
    for item in (*ARMS, *ENCODERS):
        assert item.title in page
    assert (tmp_path / "results-dice.png").stat().st_size > 5000
    scores = read_scores(tmp_path / "study/cases.csv")
    for arm in ARMS:
        mine = [score for score in scores if score.arm == arm.name]
        assert [s.case_id for s in mine if s.data == TEST_NAME] == ["r0"]
        tested = [(s.case_id, s.fold) for s in mine if s.data == CV_NAME]
        assert len(tested) == len({case for case, _ in tested})
        assert {fold for _, fold in tested} == {0, 1}
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("final.safetensors")}
    assert len(models) == len(ENCODERS) + 2 * len(ARMS)
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in models} == models


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--folds", "6"), "--folds is from 1 to 5"),
        (("--arms", "unet,nonsense"), "There is no arm 'nonsense'"),
        (("--page", "nowhere/results.md"), "The folder 'nowhere' of --page does not exist"),
    ],
)
def test_what_the_study_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    from ProstateXferLib.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["study", "miniature", "-o", "study", *words]) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
