# SPDX-License-Identifier: Apache-2.0
"""Recipes are read strictly: what is misspelt, missing or of the wrong kind is told before anything runs."""

import copy
import dataclasses

import pytest

from ProstateXferLib.errors import ProstateXferError

yaml = pytest.importorskip("yaml")

from ProstateXferLib.training.one_stage_recipe import RECIPES, SegmentationRecipe, SynthesisRecipe, load_recipe  # noqa: E402

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))
TEXTS = {"title": "t", "training_data": "d", "licence": "l", "citation": "c"}
SEGMENTATION = {
    "kind": "segmentation",
    "name": "tiny",
    "texts": TEXTS,
    "encoder": {"width": 32, "depth": 4, "heads": 2},
    "spacing_mm": 1.0,
    "crops": {"size": 64, "scale": [0.8, 1.25]},
    "glands": {"weight": 1.0, "folder": "cases", "held_out": ["a", "b"]},
    "schedule": {"steps": 10, "learning_rate": 1.0e-3},
}
SYNTHESIS = {
    "kind": "synthesis",
    "name": "tiny",
    "texts": TEXTS,
    "encoder": {"width": 32, "depth": 4, "heads": 2},
    "base_channels": 4,
    "sequence": "CBCT",
    "phantoms": {"weight": 1.0, "first_seed": 3, "count": 2},
    "schedule": {"steps": 10},
}


@pytest.fixture
def written(tmp_path):
    """Path of a recipe file with these values (or this text)."""

    def write(values):
        path = tmp_path / "mine.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
        return path

    return write


def changed(values, where, new):
    """A copy with the entry at "a.b" replaced, or removed where `new` is the class `dict` itself."""
    values = copy.deepcopy(values)
    *parents, last = where.split(".")
    inner = values
    for parent in parents:
        inner = inner[parent]
    if new is dict:
        del inner[last]
    else:
        inner[last] = new
    return values


def complaint_of(path):
    with pytest.raises(ProstateXferError) as refusal:
        load_recipe(path)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_there_is_a_recipe_for_each_shipped_model():
    assert {"prostate-dil-small", "dgcf-mr-small", "dgcf-cbct-small"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_by_its_name_and_says_what_it_is_trained_on(name):
    recipe = load_recipe(name)
    assert isinstance(recipe, SegmentationRecipe | SynthesisRecipe)
    assert recipe.schedule.warmup_steps < recipe.schedule.steps
    assert all(dataclasses.asdict(recipe.texts).values())


def test_every_value_arrives_where_it_belongs_and_the_rest_are_defaults(written):
    recipe = load_recipe(written(SEGMENTATION))
    assert recipe.encoder == dataclasses.replace(recipe.encoder, width=32, depth=4, heads=2, layer_scale=0.1)
    assert recipe.crops.scale == (0.8, 1.25)
    assert recipe.glands.held_out == ("a", "b")
    assert recipe.schedule.learning_rate == 1e-3
    assert (recipe.phantoms, recipe.start, recipe.test_folders, recipe.seed) == (None, None, (), 0)
    other = load_recipe(written(SYNTHESIS))
    assert (other.size, other.sequence, other.phantoms.count) == (256, "CBCT", 2)


def test_a_whole_number_is_as_good_as_a_decimal_one(written):
    recipe = load_recipe(written(changed(SEGMENTATION, "spacing_mm", 1)))
    assert isinstance(recipe.spacing_mm, float)


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("spacing", "mine.yaml has the unknown key 'spacing': the keys are kind, name, texts"),
        ("schedule.step", "mine.yaml: schedule has the unknown key 'step'"),
        ("texts.author", "mine.yaml: texts has the unknown key 'author'"),
        ("glands.path", "mine.yaml: glands has the unknown key 'path'"),
    ],
)
def test_an_unknown_key_is_named_with_where_it_stands(written, where, sentence):
    assert sentence in complaint_of(written(changed(SEGMENTATION, where, 1)))


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("spacing_mm", "mine.yaml lacks the key 'spacing_mm'"),
        ("schedule", "mine.yaml lacks the key 'schedule'"),
        ("schedule.steps", "mine.yaml: schedule lacks the key 'steps'"),
        ("texts.licence", "mine.yaml: texts lacks the key 'licence'"),
        ("encoder.heads", "mine.yaml: encoder lacks the key 'heads'"),
    ],
)
def test_a_missing_key_is_named_with_where_it_should_stand(written, where, sentence):
    assert complaint_of(written(changed(SEGMENTATION, where, dict))).startswith(sentence)


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        ("spacing_mm", "one", "mine.yaml: spacing_mm must be float, not 'one'"),
        ("schedule.steps", 1.5, "mine.yaml: schedule: steps must be int, not 1.5"),
        ("schedule.steps", True, "mine.yaml: schedule: steps must be int, not True"),
        ("schedule.bf16", 1, "mine.yaml: schedule: bf16 must be bool, not 1"),
        ("name", 3, "mine.yaml: name must be str, not 3"),
        ("encoder", [32, 4, 2], "mine.yaml: encoder must be a mapping of keys to values, not [32, 4, 2]"),
        ("crops.scale", 1.0, "mine.yaml: crops: scale must be a list, not 1.0"),
        ("crops.scale", [0.8], "mine.yaml: crops: scale must have 2 entries, not 1"),
        ("crops.scale", ["a", 1.0], "mine.yaml: crops: scale must be float, not 'a'"),
        ("glands.held_out", [1], "mine.yaml: glands: held_out must be str, not 1"),
        ("test_folders", "real", "mine.yaml: test_folders must be a list, not 'real'"),
        ("start", 5, "mine.yaml: start must be str, not 5"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_what_it_should_be(written, where, value, sentence):
    assert complaint_of(written(changed(SEGMENTATION, where, value))).startswith(sentence)


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        ("schedule.steps", 0, "at least one step"),
        ("schedule.batch_size", 0, "one crop a step"),
        ("schedule.warmup_steps", -1, "no negative warm-up"),
        ("schedule.ema", 1.0, "ema is 1.0"),
        ("schedule.learning_rate", float("nan"), "must be finite"),
        ("schedule.encoder_learning_rate", -1.0e-3, "not negative"),
        ("schedule.clip_norm", 0.0, "clip_norm above zero"),
        ("crops.size", 100, "crops' size is 100: give a multiple of 16"),
        ("crops.scale", [1.2, 0.8], "two increasing numbers"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_training(written, where, value, sentence):
    assert sentence in complaint_of(written(changed(SEGMENTATION, where, value)))


@pytest.mark.parametrize("kind", ["detection", None, ["segmentation"], {"a": 1}, 3])
def test_an_unknown_kind_of_recipe_is_refused(written, kind):
    assert "must say kind: segmentation or synthesis" in complaint_of(written(changed(SEGMENTATION, "kind", kind)))


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n", "42"])
def test_a_file_that_is_no_mapping_is_refused(written, text):
    assert "must say kind: segmentation or synthesis" in complaint_of(written(text))


@pytest.mark.parametrize(
    "text", ["kind: [segmentation", "a:\n\t- b", "kind: 'open\n\nmore: 1", "!!python/object:os.x {}"]
)
def test_a_file_that_is_no_yaml_is_refused_in_one_line(written, text):
    assert "is not valid YAML" in complaint_of(written(text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00kind")
    assert "is not valid YAML" in complaint_of(path)


def test_a_name_that_is_no_recipe_is_answered_with_those_there_are():
    assert complaint_of("prostate-dil-large").endswith(f"give a YAML file or one of {', '.join(SHIPPED)}.")
