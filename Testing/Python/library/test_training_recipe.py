# SPDX-License-Identifier: Apache-2.0
"""Recipes are read strictly: what is misspelt, missing, of a wrong kind or contradictory is told before all else."""

import dataclasses

import pytest
from outcomes.refusal import refusal

from ProstateXferLib.errors import ProstateXferError

pytest.importorskip("yaml")

import yaml

from ProstateXferLib.training.recipe import files
from ProstateXferLib.training.recipe.checks import check_files
from ProstateXferLib.training.recipe.files import find_recipe, recipe_names
from ProstateXferLib.training.recipe.listing import recipe_text
from ProstateXferLib.training.recipe.reading import read_recipe, recipe_sha256
from ProstateXferLib.training.recipe.schema import Group
from ProstateXferLib.training.tasks.registry import TASKS
from toy_training.recipe import changed, toy_recipe
from toy_training.task import KIND, Bend, Stretch


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(TASKS, "toy", KIND)


@pytest.fixture
def written(tmp_path):
    """Path of a recipe file with these values (or this text)."""

    def write(values, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
        return path

    return write


def stage_with(place, value):
    """The toy recipe whose only stage has this value at "a.b"; the class `dict` removes it."""
    recipe = toy_recipe()
    *above, last = place.split(".")
    inner = recipe["stages"][0]
    for key in above:
        inner = inner.setdefault(key, {})
    if value is dict:
        del inner[last]
    else:
        inner[last] = value
    return recipe


def test_every_value_arrives_where_it_belongs_and_the_rest_are_defaults(written):
    (stage,) = read_recipe(written(toy_recipe())).stages
    assert (stage.optimiser.learning_rate, stage.optimiser.name, stage.optimiser.betas) == (0.01, "adamw", (0.9, 0.999))
    assert (stage.split.folds, stage.split.test_share, stage.split.fold) == (3, 0.2, 0)
    assert (stage.loop.batch_size, stage.loop.accumulate) == (8, 1)
    assert stage.data[0].options == {"count": 6}
    assert (stage.settings.norm, stage.settings.change, stage.groups) == ("layer", None, ())


def test_settings_become_the_tasks_own_dataclass_at_every_depth(written):
    recipe = toy_recipe({"settings": {"change": {"factor": 2, "axes": [1, 2]}, "sizes": [[1, 2], [3, 0.5]]}})
    settings = read_recipe(written(recipe)).stages[0].settings
    assert settings.change == Stretch(2.0, (1, 2))
    assert settings.sizes == ((1, 2.0), (3, 0.5))
    recipe = toy_recipe({"settings": {"change": {"degrees": 3}}})
    assert read_recipe(written(recipe)).stages[0].settings.change == Bend(3.0)


def test_settings_may_be_left_out_where_all_have_defaults(written):
    assert read_recipe(written(stage_with("settings", dict))).stages[0].settings.norm == "layer"


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-4", "+1e-4"])
def test_a_number_is_a_number_however_it_is_written(written, text):
    """PyYAML takes 1e-4 for a text."""
    path = written(yaml.safe_dump(stage_with("optimiser.learning_rate", "HERE")).replace("HERE", text))
    assert read_recipe(path).stages[0].optimiser.learning_rate == 1e-4
    changes = [f"stages.only.optimiser.learning_rate={text}"]
    assert read_recipe(written(toy_recipe()), changes=changes).stages[0].optimiser.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("losses", 1, "mine.yaml: stages[0] has the unknown key 'losses': the keys are name, task, settings"),
        ("optimizer", {}, "mine.yaml: stages[0] has the unknown key 'optimizer': did you mean 'optimiser'?"),
        ("loop.batchsize", 4, "stages[0].loop has the unknown key 'batchsize': did you mean 'batch_size'?"),
        ("settings.dropouts", 1, "stages[0].settings has the unknown key 'dropouts': did you mean 'dropout'?"),
        ("settings.change", {"factr": 2}, "change has the unknown key 'factr': did you mean 'factor'?"),
        ("task", dict, "mine.yaml: stages[0] lacks the key 'task': add it."),
        ("schedule.epochs", dict, "mine.yaml: stages[0].schedule lacks the key 'epochs': add it."),
        ("optimiser.learning_rate", "fast", "stages[0].optimiser.learning_rate must be float, not 'fast'."),
        ("schedule.epochs", 1.5, "stages[0].schedule.epochs must be int, not 1.5."),
        ("schedule.epochs", True, "stages[0].schedule.epochs must be int, not True."),
        ("schedule.by_epoch", 1, "stages[0].schedule.by_epoch must be bool, not 1."),
        ("optimiser.betas", [0.9], "stages[0].optimiser.betas must have 2 entries, not 1."),
        ("optimiser.betas", 0.9, "stages[0].optimiser.betas must be a list, not 0.9."),
        ("optimiser.betas", [0.9, "b"], "stages[0].optimiser.betas[1] must be float, not 'b'."),
        ("settings.sizes", [[1, 2], [1]], "stages[0].settings.sizes[1] must have 2 entries, not 1."),
        ("settings.change", {"factor": 1, "axes": ["x"]}, "stages[0].settings.change.axes[0] must be int, not 'x'."),
        ("data", {"layout": "cases"}, "stages[0].data must be a list, not {'layout': 'cases'}."),
        ("data", ["cases"], "stages[0].data[0] must be a mapping of keys to values, not 'cases'."),
        ("network.arguments", [1], "stages[0].network.arguments must be a mapping of keys to values, not [1]."),
        ("start.checkpoint", 5, "stages[0].start.checkpoint must be str, not 5."),
        (
            "groups",
            [{"match": ["a"], "weight_decay": "no"}],
            "stages[0].groups[0].weight_decay must be float, not 'no'.",
        ),
        ("task", "toys", "mine.yaml: stages[0].task: There is no task 'toys': did you mean 'toy'?"),
    ],
)
def test_what_is_wrong_is_named_with_where_it_stands(written, place, value, sentence):
    assert sentence in refusal(read_recipe, written(stage_with(place, value)))


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("split.rule", "random", "mine.yaml: stages[0].split: The split's rule 'random' is none of nnunet"),
        ("split.fold", 3, "fold 3 is not one of 0 to 2"),
        ("optimiser.name", "lion", "stages[0].optimiser: The optimiser 'lion' is none of adamw"),
        ("optimiser.learning_rate", float("nan"), "must be finite"),
        ("schedule.epochs", 0, "at least one epoch"),
        ("schedule.warmup_epochs", 4, "leaves nothing to train"),
        ("schedule.warmup", "fast", "warmup 'fast' is none of skip_zero"),
        ("schedule.decay_epochs", 5.0, "must be above 0 and fit after the warm-up, not 5.0"),
        ("loop.accumulate", 3, "A batch of 8 cannot be worked off in 3 equal parts"),
        ("loop.ema", 1.0, "ema must be from 0 up to, not, 1"),
        ("selection.keep", "median", "keeps 'best' or 'final', not 'median'"),
        ("name", "a/b", "mine.yaml: stages[0].name 'a/b' names a folder"),
        ("name", "..", "stages[0].name '..' names a folder"),
        ("start.checkpoint", "{previous}", "stages[0].start.checkpoint '{previous}' is no earlier stage"),
        ("start.drop", ["head"], "stages[0].start takes parts of no checkpoint"),
        ("data", [{"layout": "phantoms", "test_only": True}], "stages[0].data has nothing to train on"),
        ("data", [{"layout": "phantoms", "weight": 0}], "stages[0].data[0].weight must be above zero, not 0.0"),
        ("groups", [{"match": [""]}], "stages[0].groups must each match a part of a name"),
        ("split", {"rule": "none"}, "stages[0].selection keeps the best, but no case validates"),
        ("split", {"rule": "fixed", "test": ["a"]}, "stages[0].selection keeps the best, but no case validates"),
        ("split", {"rule": "fixed", "test": ["a"], "validation": ["a"]}, "the case 'a' in both validation and test"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_training(written, place, value, sentence):
    assert sentence in refusal(read_recipe, written(stage_with(place, value)))


def test_stopping_early_needs_somebody_who_validates(written):
    recipe = toy_recipe({"split": {"rule": "none"}, "loop.patience": 2, "selection.keep": "final"})
    assert "stages[0].loop.patience stops early by validation, but no case validates" in refusal(
        read_recipe, written(recipe)
    )


def test_a_stage_starts_from_earlier_ones_only(written):
    def chain_of(start):
        return toy_recipe({"name": "a"}, {"name": "b", "start.checkpoint": start}, {"name": "c"})

    for start in ("{previous}", "{stage:a}"):
        assert read_recipe(written(chain_of(start))).stages[1].start.checkpoint == start
    for start in ("{stage:b}", "{stage:c}", "{stage:}", "{a}", "{previous"):
        assert f"stages[1].start.checkpoint '{start}' is no earlier stage (a)" in refusal(
            read_recipe, written(chain_of(start))
        )


def test_two_stages_of_one_name_are_refused(written):
    assert "needs stages, each with its own name" in refusal(read_recipe, written(toy_recipe({}, {})))


def test_folders_and_checkpoints_that_are_not_there_are_named(written, tmp_path):
    source = {"layout": "cases", "path": "mine"}
    with pytest.raises(ProstateXferError, match=r"stages\[0\].data\[0\]: there is no data folder '.*mine'.*--data"):
        check_files(read_recipe(written(toy_recipe({"data": [source]}))), tmp_path)
    (tmp_path / "mine").mkdir()
    recipe = toy_recipe({"data": [source]}, {"name": "b", "data": [source], "start.checkpoint": "no-such.safetensors"})
    with pytest.raises(ProstateXferError, match=r"stages\[1\].start.checkpoint: There is no checkpoint 'no-such"):
        check_files(read_recipe(written(recipe)), tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must be a mapping"),
        ("just words", "must be a mapping"),
        ("- a\n- list\n", "must be a mapping"),
        ("stages: [segmentation", "is not valid YAML"),
        ("a:\n\t- b", "is not valid YAML"),
        ("!!python/object/apply:os.system ['touch hacked']", "is not valid YAML"),
        ("name: a\nseed: 1\nname: b\n", "has the key 'name' twice (from line 1): remove one."),
        ("stages:\n- name: a\n  task: x\n  task: y\n", "has the key 'task' twice (from line 2): remove one."),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(written, text, sentence, tmp_path):
    assert sentence in refusal(read_recipe, written(text))
    assert not (tmp_path / "hacked").exists()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00kind")
    assert "is not UTF-8 text" in refusal(read_recipe, path)


def test_a_recipe_says_only_what_differs_from_its_base(written):
    """Three arms that differ in what they start from: mappings and stages are merged, lists replaced."""
    written(
        toy_recipe(
            {"groups": [{"match": ["encoder"], "frozen": True}]}, {"name": "second", "start.checkpoint": "{previous}"}
        ),
        "base.yaml",
    )
    written({"base": "base.yaml", "stages": [{"name": "second", "optimiser": {"learning_rate": 0.5}}]}, "middle.yaml")
    arm = {
        "base": "middle.yaml",
        "name": "arm",
        "stages": [{"name": "only", "groups": [{"match": ["head"]}], "settings": {"dropout": 0.5}}, {"name": "third"}],
    }
    base, third = read_recipe(written(toy_recipe())).stages[0], changed(toy_recipe()["stages"][0], name="third")
    arm["stages"][1] = third
    first, second, last = read_recipe(written(arm)).stages
    assert first.groups == (Group(("head",)),)
    assert dataclasses.replace(first, groups=(), settings=base.settings) == base
    assert (first.settings.dropout, first.settings.samples) == (0.5, 24)
    assert (second.optimiser.learning_rate, second.optimiser.weight_decay) == (0.5, 0.0)
    assert (last.name, second.start.checkpoint) == ("third", "{previous}")


def test_a_stage_of_another_task_keeps_nothing_of_its_bases_settings(written, monkeypatch):
    monkeypatch.setitem(TASKS, "other", KIND)
    written(toy_recipe({"settings": {"dropout": 0.5}}), "base.yaml")
    stage = {"name": "only", "task": "other", "settings": {"norm": "none"}}
    settings = read_recipe(written({"base": "base.yaml", "stages": [stage]})).stages[0].settings
    assert (settings.norm, settings.dropout) == ("none", 0.0)


def test_a_base_that_is_none_or_in_a_ring_is_refused(written):
    written({"base": "mine.yaml"}, "other.yaml")
    assert "is based on itself" in refusal(read_recipe, written({"base": "other.yaml"}))
    told = refusal(read_recipe, written({"base": "nothing"}), longest=2000)  # it lists what there is
    assert "There is no recipe 'nothing'" in told
    assert "base must be a recipe's path or name, not 3" in refusal(read_recipe, written({"base": 3}))


@pytest.mark.parametrize(
    ("change", "value_of", "value"),
    [
        ("stages.only.loop.batch_size=4", lambda c: c.stages[0].loop.batch_size, 4),
        ("stages.0.loop.batch_size=4", lambda c: c.stages[0].loop.batch_size, 4),
        ("stages.only.groups=[{match: [head], factor: 0.5}]", lambda c: c.stages[0].groups[0].factor, 0.5),
        ("stages.only.data.0.weight=3", lambda c: c.stages[0].data[0].weight, 3.0),
        ("stages.only.settings.change={degrees: 2}", lambda c: c.stages[0].settings.change, Bend(2.0)),
        ("stages.only.settings.change=null", lambda c: c.stages[0].settings.change, None),
        ("stages.only.start.checkpoint=a=b", lambda c: c.stages[0].start.checkpoint, "a=b"),
        ("texts.title=Another title", lambda c: c.texts.title, "Another title"),
        ("store=fp16", lambda c: c.store, "fp16"),
    ],
)
def test_the_command_line_changes_one_value(written, change, value_of, value):
    assert value_of(read_recipe(written(toy_recipe()), changes=[change])) == value


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("stages.only.loop.batch_size", "--set takes KEY.KEY=VALUE"),
        ("=3", "--set takes KEY.KEY=VALUE"),
        ("stages.other.loop.batch_size=4", "'other' is none of only"),
        ("stages.1.loop.batch_size=4", "'1' is none of only"),
        ("stages.only.data.2.weight=4", "'2' is none of 0 to 0"),
        ("name.first=4", "there is no 'first' in a plain value"),
        ("stages.only.loop.batches=4", "stages[0].loop has the unknown key 'batches'"),
        ("stages.only.loop.batch_size=many", "stages[0].loop.batch_size must be int, not 'many'"),
        ("stages.only.loop.batch_size=[", "The value of --set stages.only.loop.batch_size is not valid YAML"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(written, change, sentence):
    assert sentence in refusal(read_recipe, written(toy_recipe()), changes=[change])


def test_a_fold_is_chosen_for_all_stages_that_have_folds(written):
    fixed = {"name": "b", "split": {"rule": "none"}, "selection.keep": "final"}
    chain = read_recipe(written(toy_recipe({}, fixed)), fold=2)
    assert [stage.split.fold for stage in chain.stages] == [2, 0]
    assert "has no folds: leave --fold out" in refusal(read_recipe, written(toy_recipe(fixed)), fold=1)
    assert "fold 3 is not one of 0 to 2" in refusal(read_recipe, written(toy_recipe()), fold=3)


def test_a_limit_of_steps_is_set_for_all_stages(written):
    chain = read_recipe(written(toy_recipe({}, {"name": "b"})), steps=7)
    assert [stage.schedule.max_steps for stage in chain.stages] == [7, 7]
    assert "at least one step" in refusal(read_recipe, written(toy_recipe()), steps=0)


def test_what_is_listed_is_a_recipe_that_reads_back_the_same(written):
    recipe = toy_recipe(
        {"settings": {"change": {"factor": 2}, "sizes": [[1, 2]]}, "groups": [{"match": ["head"]}]},
        {"name": "b", "start.checkpoint": "{previous}"},
    )
    chain = read_recipe(written(recipe))
    again = read_recipe(written(recipe_text(chain), "again.yaml"))
    assert again == chain
    assert recipe_sha256(again) == recipe_sha256(chain)
    assert recipe_sha256(read_recipe(written(recipe), steps=3)) != recipe_sha256(chain)


@pytest.fixture
def own_recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RECIPES", tmp_path / "recipes")
    for name in ("paper-one/frozen", "paper-two/frozen", "paper-two/trained"):
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(toy_recipe(name=name.replace("/", "-"))), encoding="utf-8")


@pytest.mark.usefixtures("own_recipes")
def test_recipes_go_by_their_folders_and_by_their_last_part_where_it_is_the_only_one():
    assert recipe_names() == ("paper-one/frozen", "paper-two/frozen", "paper-two/trained")
    assert read_recipe("paper-two/frozen").name == "paper-two-frozen"
    assert read_recipe("trained").name == "paper-two-trained"
    assert refusal(read_recipe, "frozen") == (
        "There are several recipes 'frozen': say which of paper-one/frozen, paper-two/frozen."
    )
    assert refusal(read_recipe, "paper-two/trainde") == (
        "There is no recipe 'paper-two/trainde': did you mean 'paper-two/trained'?"
    )
    assert "give a YAML file or one of paper-one/frozen, paper-two/frozen" in refusal(read_recipe, "xyz")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_along_is_read_by_its_name(name):
    chain = read_recipe(name)
    assert find_recipe(name).stem in name
    assert all(dataclasses.asdict(chain.texts).values())
