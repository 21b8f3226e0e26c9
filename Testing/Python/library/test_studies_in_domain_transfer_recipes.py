# SPDX-License-Identifier: Apache-2.0
"""The recipes of the in-domain transfer paper say what the paper says (papers.md, 001)."""

import dataclasses

import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.studies.in_domain_transfer.options import TransferOptions
from ProstateXferLib.studies.in_domain_transfer.recipes import network_of, run_recipe, template
from ProstateXferLib.studies.in_domain_transfer.routes import Route
from ProstateXferLib.training.recipe.reading import read_recipe
from ProstateXferLib.training.recipe.schema import Source, Start

pytest.importorskip("yaml")

RECIPES = ("imagenet", "transfer", "two-step", "all-data")
A = Source("nci-isbi-2013", "nci-isbi-2013", options={"site": "RUNMC", "part": "training"})
B = Source("nci-isbi-2013", "nci-isbi-2013", options={"site": "BMC", "part": "training", "resample": True})
C = Source("i2cvb", "i2cvb")


def recipe(name):
    return read_recipe(f"in_domain_transfer/{name}")


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_has_the_papers_schedule_and_preprocessing(name):
    for stage in recipe(name).stages:
        assert (stage.schedule.epochs, stage.schedule.decay, stage.loop.batch_size) == (200, "cosine", 16)
        assert (stage.optimiser.name, stage.optimiser.learning_rate, stage.optimiser.weight_decay) == ("adam", 1e-3, 0)
        assert (stage.split.folds, stage.split.test_share) == (5, 0.2)
        assert (stage.selection.keep, stage.selection.metric) == ("best", "slice_dice")
        settings = stage.settings
        assert settings.slices.minimum_pixels == settings.validation.slices_above_pixels == 200
        assert settings.preprocessing.n4
        assert settings.training_statistics
        assert settings.preprocessing.intensity.kind == "standardise"
        assert (settings.loss.dice, settings.loss.cross_entropy) == (1, 0)
        assert stage.network.arguments["architecture"] == "unetplusplus"
        assert stage.network.arguments["encoder"] == "efficientnet-b3"


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("imagenet", [(A,)]),
        ("transfer", [(A,), (B,)]),
        ("two-step", [(A,), (B,), (C,)]),
        ("all-data", [(A, B, C)]),
    ],
)
def test_stages_follow_each_other_from_site_to_site(name, sources):
    stages = recipe(name).stages
    assert [stage.data for stage in stages] == sources
    assert [stage.start for stage in stages] == [Start(), *[Start("{previous}")] * (len(stages) - 1)]


def test_stages_of_a_chain_differ_in_nothing_but_site_and_start():
    for name in ("transfer", "two-step"):
        stages = recipe(name).stages
        alike = {dataclasses.replace(s, name="", data=(), start=Start(), network=None, settings=None) for s in stages}
        assert len(alike) == 1
        assert all(s.settings == stages[0].settings and s.network == stages[0].network for s in stages)


def test_a_run_of_the_study_is_the_shipped_recipe_with_site_fold_and_start(tmp_path):
    options = TransferOptions(epochs=7, changes=("stages.target.loop.batch_size=4",))
    network = network_of("unet", "resnet18", "none")
    sites = {"A": Source("cases", "a"), "B": Source("cases", "b")}
    chain = run_recipe(
        template(options, merged=False),
        Route(("A", "B")),
        sites,
        fold=3,
        network=network,
        start=tmp_path / "a.safetensors",
    )
    (stage,) = chain.stages
    assert stage.data == (sites["B"],)
    assert stage.start.checkpoint == str(tmp_path / "a.safetensors")
    assert (stage.split.fold, stage.schedule.epochs, stage.loop.batch_size) == (3, 7, 4)
    assert stage.network.arguments == {"architecture": "unet", "encoder": "resnet18"}
    assert stage.settings == recipe("imagenet").stages[0].settings


def test_all_sites_together_train_on_slices_of_one_size(tmp_path):
    merged = template(TransferOptions(), merged=True).stages[0]
    assert merged.settings.slices.size_yx == (416, 416)
    assert all(side % 32 == 0 for side in merged.settings.slices.size_yx)


def test_imagenet_weights_come_from_the_net_from_a_file_or_not_at_all():
    assert network_of("unet", "resnet18", "imagenet").arguments["encoder_weights"] == "imagenet"
    assert network_of("unet", "resnet18", "file.pth").arguments["weights_file"] == "file.pth"
    assert "encoder_weights" not in network_of("unet", "resnet18", "none").arguments


def test_a_change_that_does_not_fit_the_recipe_is_refused():
    with pytest.raises(ProstateXferError, match="unknown key|no field|sped"):
        template(TransferOptions(changes=("stages.target.sped=1",)), merged=False)
