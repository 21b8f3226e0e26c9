# SPDX-License-Identifier: Apache-2.0
"""What the optimiser does to which weight: rates, schedules, weight decay, groups of parameters, cut gradients."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ProstateXferLib.errors import ProstateXferError

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
from ProstateXferLib.training.engine.fabric import make_fabric
from ProstateXferLib.training.engine.fit import fit
from ProstateXferLib.training.engine.parameter_groups import assign_parameters, make_optimiser, may_fuse
from ProstateXferLib.training.engine.rates import rate_factor, stage_length, weight_decay_factor
from ProstateXferLib.training.recipe.schema import (
    Group,
    Optimiser,
    Schedule,
)
from toy_training.engine import CPU, Watcher, copy_of, stage_of, toy, training_in


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""
    return training_in(tmp_path)


def test_a_part_with_its_own_small_rate_moves_less_than_with_the_common_one(train):
    start = toy(stage_of()).network.encoder[0].weight.detach().clone()
    moved = []
    for factor in (1e-3, 1.0):
        run = train(folder=str(factor), groups=(Group(("encoder",), factor=factor),))
        moved.append((run.final["encoder.0.weight"] - start).norm().item())
        assert run.metrics[0]["learning_rate/encoder"] == pytest.approx(1e-2 * factor)
    assert 0 < moved[0] < 0.01 * moved[1]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_fused_step_is_the_same_step_for_convolutions_with_channels_last_too(name):
    """The CPU's fused kernel does not look at strides: gradients must lie in memory as their parameters do."""
    options = Optimiser(name, learning_rate=1e-2, momentum=0.9)
    moved = []
    for fused in (False, True):
        torch.manual_seed(0)
        learner = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, (3, 1)))
        learner.to(memory_format=torch.channels_last)
        optimiser = make_optimiser(assign_parameters(learner, options, ()), options, fused=fused)
        for scale in (1.0, 2.0, 3.0):
            optimiser.zero_grad()
            for image in torch.rand(2, 2, 3, 8, 8):  # two parts: gradients are added up
                (learner(image) ** 2).sum().mul(scale).backward()
            assert all(p.grad.stride() == p.stride() for p in learner.parameters())
            optimiser.step()
        moved.append(copy_of(learner))
    for key, value in moved[0].items():
        torch.testing.assert_close(moved[1][key], value, rtol=1e-5, atol=1e-7)


def test_steps_are_fused_where_that_leaves_clipping_to_the_engine():
    assert may_fuse(torch.device("cuda"), "bf16") and may_fuse(torch.device("cpu"), "fp32")
    assert not may_fuse(torch.device("cuda"), "fp16") and not may_fuse(torch.device("mps"), "fp32")


def test_the_rate_is_how_far_a_weight_moves(tmp_path):
    """With one weight, a constant gradient and Adam, a step is as long as its rate."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, batch, step):
            places.append(self.weight.item())
            return -self.weight.sum(), {}

    places, learner = [], One()
    task = toy(stage_of(), validates=False)
    task.learner = task.network = learner
    task.validate, task.weights = lambda *_: {}, lambda network: {}
    schedule = {"epochs": 20, "steps_per_epoch": 1, "warmup_epochs": 4, "decay": "cosine"}
    stage = stage_of(**schedule, learning_rate=1.0)
    options = {"fabric": make_fabric(CPU, "fp32"), "keep": lambda *_: None, "progress": Watcher()}
    fit(task, stage, seed=0, folder=tmp_path, **options)
    lengths = torch.tensor([*places[1:], learner.weight.item()]) - torch.tensor(places)
    expected = [0.25, 0.5, 0.75, 1.0, *(0.5 * (1 + math.cos(math.pi * i / 16)) for i in range(16))]
    assert lengths.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_stage_is_its_epochs_unless_its_steps_are_limited():
    passes = Schedule(epochs=3)
    assert (stage_length(passes, samples=25, batch_size=8).total_steps, 12) == (12, 12)
    limited = stage_length(Schedule(epochs=1000, steps_per_epoch=250, max_steps=10), samples=1, batch_size=1)
    assert (limited.steps_per_epoch, limited.total_steps) == (10, 10)


def test_a_limited_stage_goes_through_the_whole_schedule_compressed():
    schedule = Schedule(epochs=100, steps_per_epoch=10, warmup_epochs=25, decay="linear", max_steps=20)
    found = [rate_factor(schedule, step, 20) for step in range(20)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, *(1 - i / 15 for i in range(15))])


def test_weight_decay_may_rise_along_a_cosine():
    """DINO: .04 at the first step, .4 at the last, the mean of both in the middle."""
    options = Optimiser(weight_decay=0.04, weight_decay_end=0.4)
    found = [0.04 * weight_decay_factor(options, step, 11) for step in (0, 5, 10)]
    assert found == pytest.approx([0.04, 0.22, 0.4])
    assert weight_decay_factor(Optimiser(), 3, 11) == 1


class Still(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 3)])
        self.norm = nn.LayerNorm(3)
        self.conv = nn.Conv2d(3, 1, 1)
        self.cls_token = nn.Parameter(torch.ones(1, 1, 3))
        self.storage_tokens = nn.Parameter(torch.ones(1, 4, 3))


@pytest.mark.parametrize("decay_all", [False, True])
def test_weight_decay_is_for_matrices_alone_unless_all_is_said(decay_all):
    assigned = assign_parameters(Still(), Optimiser(weight_decay=0.1, decay_all=decay_all), ())
    decayed = {entry.name for entry in assigned if entry.weight_decay}
    everything = {entry.name for entry in assigned}
    assert decayed == (everything if decay_all else {"blocks.0.weight", "conv.weight"})


def test_weight_decay_shrinks_what_gets_no_gradient(train):
    task = toy(stage_of())
    task.after_backward = lambda step: [parameter.grad.zero_() for parameter in task.network.parameters()]
    before = copy_of(task.network)
    run = train(task, weight_decay=0.5, groups=(Group(("head",), weight_decay=0.0),))
    assert torch.allclose(run.final["encoder.0.weight"], before["encoder.0.weight"] * (1 - 0.5 * 1e-2) ** 40, rtol=1e-4)
    for untouched in ("encoder.0.bias", "encoder.1.weight", "head.weight"):
        assert torch.equal(run.final[untouched], before[untouched])


def test_the_first_group_that_matches_counts_and_every_group_must_match():
    groups = (Group(("blocks",), factor=0.1), Group(("weight",), factor=0.5, weight_decay=0.3))
    factors = {entry.name: (entry.factor, entry.group) for entry in assign_parameters(Still(), Optimiser(), groups)}
    assert factors["blocks.0.weight"] == (0.1, "blocks")
    assert factors["conv.weight"] == (0.5, "weight")
    assert factors["cls_token"] == (1.0, "rest")
    with pytest.raises(
        ProstateXferError, match="group that matches bloks has no parameter .* names are like cls_token"
    ):
        assign_parameters(Still(), Optimiser(), (Group(("bloks",)),))
    with pytest.raises(ProstateXferError, match="group that matches blocks.0 has no parameter"):
        assign_parameters(Still(), Optimiser(), (*groups, Group(("blocks.0",))))
    with pytest.raises(ProstateXferError, match="freezes every parameter"):
        assign_parameters(Still(), Optimiser(), (Group(("o",), frozen=True),))


def test_layer_decay_multiplies_the_groups_factor_and_needs_layers():
    assigned = assign_parameters(Still(), Optimiser(layer_decay=0.5), (Group(("blocks", "token"), factor=0.1),))
    factors = {entry.name: entry.factor for entry in assigned}
    assert (factors["blocks.0.weight"], factors["cls_token"], factors["norm.weight"]) == (0.05, 0.025, 1.0)
    with pytest.raises(ProstateXferError, match="layer_decay finds no transformer blocks"):
        assign_parameters(nn.Linear(2, 2), Optimiser(layer_decay=0.5), ())


def test_what_the_task_itself_holds_fixed_is_no_parameter_to_train(train):
    task = toy(stage_of())
    task.network.encoder.requires_grad_(False)
    groups = {entry.group for entry in assign_parameters(task.learner, Optimiser(), ()) if entry.frozen}
    assert groups == {"fixed by the task"}
    before = copy_of(task.network)
    run = train(task, weight_decay=0.5)
    assert torch.equal(run.final["encoder.0.weight"], before["encoder.0.weight"])


def test_long_gradients_are_cut(train):
    """Plain SGD with rate 1 moves as far as the gradient is long."""
    task, places = toy(stage_of()), []
    task.after_backward = lambda step: places.append(nn.utils.parameters_to_vector(task.network.parameters()).detach())
    options = {"learning_rate": 1.0, "momentum": 0.0, "clip_norm": 1e-3, "epochs": 1}
    train(task, **options, **{"name": "sgd"})
    lengths = [(b - a).norm().item() for a, b in pairwise(places)]
    assert lengths == pytest.approx([1e-3] * len(lengths), rel=1e-2)
