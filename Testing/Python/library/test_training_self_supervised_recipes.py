# SPDX-License-Identifier: Apache-2.0
"""The mr_dinov3 recipes for self-supervision: the published constants, and that they agree with each other."""

import dataclasses
import json

import pytest

from ProstateXferLib.training.engine.parameter_groups import layer_factors
from ProstateXferLib.training.recipe.reading import read_recipe

pytest.importorskip("yaml")
NAMES = ("ct-pretraining", "mr-adaptation", "mr-gram-anchoring", "mr-high-resolution", "mr-ssl-chain")
PEAK_AT_1024 = {"ct-pretraining": 2e-4, "mr-adaptation": 2e-4, "mr-gram-anchoring": 3e-5, "mr-high-resolution": 5e-5}
"""Learning rates of the references before they are multiplied by 4 sqrt(batch / 1024) (notes 3.3)."""


def recipe(name):
    return read_recipe(f"mr_dinov3/{name}")


@pytest.mark.parametrize("name", NAMES)
def test_what_the_references_agree_on(name):
    """Reference notes 3.2 and 3.3."""
    for stage in recipe(name).stages:
        settings, optimiser = stage.settings, stage.optimiser
        assert (settings.heads.prototypes, settings.heads.hidden, settings.heads.bottleneck) == (65536, 2048, 256)
        assert (settings.masks.share, settings.masks.ratio, settings.koleo_weight) == (0.5, (0.1, 0.5), 0.1)
        assert settings.views.small_count == 8 and settings.views.large_scale == (0.32, 1.0)
        assert (settings.noise.drop_path, settings.noise.rope_rescale) == (0.2, 2.0)
        assert (optimiser.betas, optimiser.weight_decay, optimiser.clip_norm) == ((0.9, 0.999), 0.04, 3.0)
        assert (optimiser.layer_decay, optimiser.patch_embed_factor) == (0.9, 0.2)
        assert stage.loop.ema == 0


@pytest.mark.parametrize("name", PEAK_AT_1024)
def test_learning_rates_grow_with_the_root_of_the_batch(name, golden_data):
    golden = json.loads((golden_data / "mr-dinov3" / "ssl_misc.json").read_text())["sqrt_wrt_1024_factor"]
    (stage,) = recipe(name).stages
    factor = golden.get(str(stage.loop.batch_size), 4 * (stage.loop.batch_size / 1024) ** 0.5)
    assert stage.optimiser.learning_rate == pytest.approx(PEAK_AT_1024[name] * factor, rel=1e-4)


def test_layers_of_the_student_learn_at_the_published_rates(golden_data):
    """Names as the learner has them; heads learn at the full rate."""
    golden = json.loads((golden_data / "mr-dinov3" / "ssl_misc.json").read_text())
    published = golden["lr_multipliers_decay0p9_12layers_patchembed0p2"]
    optimiser = recipe("mr-adaptation").stages[0].optimiser
    names = {f"student.backbone.{name}": factor for name, factor in published.items()}
    names |= {"student.dino_head.mlp.0.weight": 1.0, "student.ibot_head.last_layer.weight": 1.0}
    assert layer_factors(names, optimiser.layer_decay, optimiser.patch_embed_factor) == pytest.approx(names)


def test_the_published_stages():
    ct, high = recipe("ct-pretraining").stages[0], recipe("mr-high-resolution").stages[0]
    assert (ct.loop.batch_size, ct.schedule.epochs, ct.schedule.steps_per_epoch) == (800, 1000, 1000)
    assert (ct.settings.momentum.peak, ct.settings.teacher_temperature.warmup_epochs) == (0.994, 30)
    assert [(c.large, c.small, c.gram, c.share) for c in high.settings.crops] == [
        (384, 112, 512, 0.3), (512, 112, 768, 0.3), (512, 144, 768, 0.3), (512, 176, 768, 0.05), (512, 224, 768, 0.05),
    ]  # fmt: skip
    assert high.settings.gram.weight.at(0, steps_per_epoch=1000, steps=5000) == 1.5
    assert high.settings.local_weight.end == 0.5 and high.settings.views.flip == 0
    gram = recipe("mr-gram-anchoring").stages[0].settings.gram
    assert gram.weight.at(0, steps_per_epoch=1000, steps=4000) == 0 and gram.refreshes == 3
    assert gram.weight.at(3999, steps_per_epoch=1000, steps=4000) == 2


def test_no_recipe_trains_on_the_fold_that_validates():
    for name in NAMES[1:]:
        assert {stage.split.rule for stage in recipe(name).stages} == {"nnunet"}


def test_the_chain_is_the_three_recipes_in_a_row():
    """But for where a stage starts, its name, and that heads are handed on."""

    def bare(stage, keep_heads=False):
        settings = dataclasses.replace(stage.settings, keep_heads=keep_heads)
        return dataclasses.replace(stage, name="", start=None, settings=settings)

    chain = recipe("mr-ssl-chain").stages
    assert [stage.settings.keep_heads for stage in chain] == [True, True, False]
    assert [stage.start.checkpoint for stage in chain] == ["meddinov3-vitb16", "{previous}", "{previous}"]
    for stage, name in zip(chain, NAMES[1:4], strict=True):
        assert bare(stage) == bare(recipe(name).stages[0])
