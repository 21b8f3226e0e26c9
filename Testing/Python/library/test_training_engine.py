# SPDX-License-Identifier: Apache-2.0
"""The training loop: it learns, repeats itself, leaves frozen parts alone, averages, and stops when it must."""

import itertools
import math

import pytest
import torch
from torch import nn

from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.training.one_stage_fit import Schedule, fit

CPU = torch.device("cpu")


class Watcher:
    def __init__(self, stop_after=None):
        self.reports, self.stop_after = [], stop_after

    def update(self, step, fraction, message=""):
        self.reports.append((step, fraction, message))

    def warn(self, message):
        raise AssertionError(message)

    def cancelled(self):
        return self.stop_after is not None and len(self.reports) >= self.stop_after

    @property
    def losses(self):
        return [float(message.rsplit("loss ", 1)[1]) for _, _, message in self.reports]


class Toy(nn.Module):
    """Part "encoder" and part "head", with a norm whose buffers count batches."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.GELU())
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def batches(seed=0):
    """y = x0 * x1 - x2, endlessly."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(32, 4, generator=generator)
        yield {"x": x, "y": (x[:, 0] * x[:, 1] - x[:, 2])[:, None]}


def squared_error(network, batch):
    return (network(batch["x"]).float() - batch["y"]).square().mean()


def schedule(**changes):
    rates = {"learning_rate": 1e-2, "encoder_learning_rate": 1e-2, "weight_decay": 0.0, "warmup_steps": 5}
    return Schedule(**{"steps": 60, "ema": 0.0, "bf16": False, **rates, **changes})


def train(network=None, *, watcher=None, data=None, loss=squared_error, snapshot=None, every=500, **changes):
    network = network or Toy()
    return fit(
        network,
        data if data is not None else batches(),
        loss,
        schedule=schedule(**changes),
        encoder=network.encoder,
        device=CPU,
        progress=watcher or Watcher(),
        snapshot=snapshot,
        snapshot_every=every,
    )


def copy_of(state):
    return {key: value.clone() for key, value in state.items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_the_loss_goes_down():
    watcher = Watcher()
    network = train(watcher=watcher, steps=300)
    assert watcher.losses[-1] < 0.3 * watcher.losses[0]
    assert not network.training


def test_bfloat16_learns_too():
    watcher = Watcher()
    train(watcher=watcher, steps=300, bf16=True)
    assert watcher.losses[-1] < 0.4 * watcher.losses[0]


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not():
    first, again, other = train(Toy(1)), train(Toy(1)), train(Toy(2))
    assert same(first.state_dict(), again.state_dict())
    assert not same(first.state_dict(), other.state_dict())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_frozen_encoder_keeps_its_weights_and_statistics_bit_for_bit(ema):
    network = Toy()
    before = copy_of(network.encoder.state_dict())
    head = copy_of(network.head.state_dict())
    modes = []
    train(
        network,
        encoder_learning_rate=0.0,
        weight_decay=0.5,
        ema=ema,
        snapshot=lambda trained, step: None,
        every=10,
        loss=lambda net, batch: modes.append(net.encoder.training) or squared_error(net, batch),
    )
    assert same(before, network.encoder.state_dict())
    assert not same(head, network.head.state_dict())
    assert set(modes) == {False}  # after a snapshot, too


def test_an_encoder_with_its_own_small_rate_moves_less_than_with_the_common_one():
    start = Toy().encoder[0].weight
    moved = [
        (train(Toy(), encoder_learning_rate=rate).encoder[0].weight - start).norm().item() for rate in (1e-5, 1e-2)
    ]
    assert 0 < moved[0] < 0.01 * moved[1]


def test_the_averaged_weights_are_the_exponential_mean_of_the_steps():
    """Recomputed beside: m <- d m + (1 - d) w with d = min(ema, (1 + step) / (10 + step)), from the start's weights."""
    network = Toy()
    seen = [copy_of(network.state_dict())]
    train(network, steps=12, ema=0.9, snapshot=None, data=_recording(network, seen))
    steps = [*seen[2:], _last_weights(12)]  # what a batch finds are the weights after the step before
    mean = seen[0]["head.weight"].clone()
    for step, state in enumerate(steps, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * state["head.weight"]
    assert torch.allclose(network.state_dict()["head.weight"], mean, atol=1e-6)


def _recording(network, seen):
    for batch in batches():
        seen.append(copy_of(network.state_dict()))
        yield batch


def _last_weights(steps):
    return train(Toy(), steps=steps, ema=0.0).state_dict()


def test_snapshots_show_the_averaged_weights_in_evaluation_and_training_goes_on_with_its_own():
    shown = {}

    def snapshot(trained, step):
        assert not trained.training
        shown[step] = copy_of(trained.state_dict())

    network = train(steps=25, ema=0.9, snapshot=snapshot, every=10)
    assert list(shown) == [10, 20, 25]
    assert same(shown[25], network.state_dict())
    assert same(train(steps=25, ema=0.9).state_dict(), network.state_dict())  # looking on changed nothing


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("steps", [7, 60])
def test_a_loss_that_is_not_finite_ends_the_training_before_anything_is_kept(value, steps):
    kept = []

    def broken(network, batch):
        return squared_error(network, batch) * value

    with pytest.raises(ProstateXferError, match="The training loss became (nan|inf) near step"):
        train(loss=broken, steps=steps, snapshot=lambda *_: kept.append(1))
    assert kept == []


def test_stopping_says_whether_a_snapshot_stays():
    with pytest.raises(CancelledError, match=r"Cancelled before step 1 of 60: nothing was written\."):
        train(watcher=Watcher(stop_after=0), snapshot=lambda *_: None)
    kept = []
    with pytest.raises(CancelledError, match=r"Cancelled before step 41 of 60: the last snapshot stays\."):
        train(watcher=Watcher(stop_after=2), snapshot=lambda _, step: kept.append(step), every=15)
    assert kept == [15, 30]


@pytest.mark.parametrize("steps", [1, 20, 33])
def test_progress_reports_the_mean_loss_and_ends_at_one(steps):
    watcher = Watcher()
    train(watcher=watcher, steps=steps)
    fractions = [fraction for _, fraction, _ in watcher.reports]
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1
    assert watcher.reports[-1][2].startswith(f"step {steps}/{steps}  loss ")


def test_the_rate_rises_linearly_and_falls_as_a_cosine():
    """With one weight, a constant gradient and Adam, a step is as long as its rate."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.encoder = nn.Identity()

    network, places = One(), []
    data = itertools.repeat({"x": torch.zeros(1)})

    def pull(net, batch):
        places.append(net.weight.item())
        return -net.weight.sum()

    train(network, data=data, loss=pull, steps=20, warmup_steps=4, learning_rate=1.0)
    lengths = torch.tensor([*places[1:], network.weight.item()]) - torch.tensor(places)
    expected = [0.25, 0.5, 0.75, 1.0, *(0.5 * (1 + math.cos(math.pi * i / 16)) for i in range(16))]
    assert lengths.tolist() == pytest.approx(expected, abs=1e-5)


def test_weight_decay_shrinks_matrices_and_leaves_biases_and_norms_alone():
    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
            self.token = nn.Parameter(torch.ones(1, 1, 3))
            nn.init.ones_(self.encoder[0].weight)
            nn.init.ones_(self.encoder[0].bias)

    def no_pull(net, batch):
        return 0 * sum(parameter.sum() for parameter in net.parameters())

    network = train(Still(), data=itertools.repeat({}), loss=no_pull, weight_decay=1.0, steps=20)
    assert network.encoder[0].weight.max() < 0.95
    for untouched in (network.encoder[0].bias, network.encoder[1].weight, network.token):
        assert torch.equal(untouched, torch.ones_like(untouched))
