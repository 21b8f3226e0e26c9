# SPDX-License-Identifier: Apache-2.0
"""The training loop: it learns, repeats itself, leaves frozen parts alone, averages its weights."""

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
from ProstateXferLib.training.engine.fabric import make_fabric
from ProstateXferLib.training.engine.state import load_state
from ProstateXferLib.training.recipe.schema import (
    Group,
)
from toy_training.engine import CPU, Watcher, copy_of, same, stage_of, toy, training_in
from toy_training.task import ToySettings


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""
    return training_in(tmp_path)


def test_the_loss_goes_down(train):
    watcher = Watcher()
    train(watcher=watcher, epochs=10, learning_rate=3e-2)
    assert watcher.losses[-1] < 0.3 * watcher.losses[0]


def test_bfloat16_learns_too_and_sees_its_inputs_unrounded(train):
    watcher = Watcher()
    task = toy(stage_of())
    seen = []
    task.learner.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]["x"].dtype))
    inner = []
    task.network.head.register_forward_hook(lambda module, inputs, output: inner.append(output.dtype))
    train(task, watcher=watcher, epochs=10, learning_rate=3e-2, precision="bf16")
    assert watcher.losses[-1] < 0.4 * watcher.losses[0]
    assert set(seen) == {torch.float32}
    assert torch.bfloat16 in inner


def test_half_precision_without_a_gpu_is_refused_not_replaced():
    with pytest.raises(ProstateXferError, match="fp16 needs a GPU"):
        make_fabric(CPU, "fp16")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(train, dropout):
    settings = ToySettings(dropout=dropout)
    first, again, other = (
        train(folder=name, seed=seed, settings=settings).final for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_frozen_part_keeps_its_weights_and_statistics_bit_for_bit(train, ema):
    settings = ToySettings(norm="batch", dropout=0.5)
    task = toy(stage_of(settings=settings))
    before, modes = copy_of(task.network), []
    task.network.encoder.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    run = train(task, settings=settings, groups=(Group(("encoder",), frozen=True),), ema=ema, weight_decay=0.5)
    frozen = {name for name in before if name.startswith("encoder")}
    assert same({name: run.final[name] for name in frozen}, {name: before[name] for name in frozen})
    assert not torch.equal(run.final["head.weight"], before["head.weight"])
    assert set(modes) == {False}  # after validations, too


def test_the_averaged_weights_are_the_exponential_mean_of_the_steps(train):
    """Recomputed beside: m <- d m + (1 - d) w with d = min(ema, (1 + step) / (10 + step)), from the start's weights."""
    task = toy(stage_of())
    mean, steps = task.network.head.weight.detach().clone(), []
    task.after_step = lambda step: steps.append(task.network.head.weight.detach().clone())
    run = train(task, ema=0.9)
    for step, weight in enumerate(steps, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weight
    assert torch.allclose(run.final["head.weight"], mean, atol=1e-6)
    assert torch.equal(task.network.head.weight, steps[-1])


def test_validation_sees_the_averaged_weights_in_evaluation_and_training_goes_on_with_its_own(train):
    task, shown = toy(stage_of()), []
    validate = task.validate

    def watch(network, progress):
        assert not network.training
        assert not torch.is_grad_enabled()
        shown.append(network.head.weight.detach().clone())
        return validate(network, progress)

    task.validate = watch
    run = train(task, ema=0.9)
    assert len(shown) == 4
    assert torch.equal(shown[-1], run.final["head.weight"])
    blind = train(folder="blind", ema=0.9, validates=False)
    assert same(blind.final, run.final)  # looking on changed nothing
    assert list(blind.kept) == ["final"]


@pytest.mark.parametrize("spoil_from", [0, 7, 39])
def test_a_loss_that_is_not_finite_ends_the_training_before_anything_of_it_is_kept(train, tmp_path, spoil_from):
    with pytest.raises(ProstateXferError, match=r"The training (loss|gradient) became nan near step \d+: lower the"):
        train(settings=ToySettings(spoil_from=spoil_from), save_steps=3)
    state = load_state(tmp_path / "run")
    assert state is None or all(torch.isfinite(value).all() for value in state["learner"].values())
    assert state is None or state["step"] <= spoil_from


def test_hooks_stand_around_the_optimisers_step(train):
    task = toy(stage_of())
    before = copy_of(task.network)
    task.after_backward = lambda step: task.network.head.weight.grad.zero_() if step < 3 else None
    heads = []
    task.after_step = lambda step: heads.append(task.network.head.weight.detach().clone())
    train(task)
    assert all(torch.equal(head, before["head.weight"]) for head in heads[:3])
    assert not torch.equal(heads[3], before["head.weight"])
