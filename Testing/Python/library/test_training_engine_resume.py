# SPDX-License-Identifier: Apache-2.0
"""Stopped and gone on with: nothing is different, and a state that is damaged or a stranger's is told."""

import pickle

import pytest
import torch

from ProstateXferLib.errors import CancelledError, ProstateXferError

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
from ProstateXferLib.training.engine.state import load_state, save_state
from toy_training.engine import Watcher, same, stage_of, toy, training_in
from toy_training.task import ToySettings


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""
    return training_in(tmp_path)


def test_stopping_saves_and_the_same_call_goes_on_as_if_nothing_had_happened(train, tmp_path):
    settings = ToySettings(norm="batch", dropout=0.3)
    whole = train(folder="whole", settings=settings, ema=0.9, learning_rate=3e-3)
    for stop_after, step in ((7, 7), (0, 7), (13, 20), (15, 35)):
        with pytest.raises(CancelledError, match=f"Cancelled after step {step} of 40: run the same command again"):
            train(folder="cut", watcher=Watcher(stop_after), settings=settings, ema=0.9, learning_rate=3e-3)
    rest = train(folder="cut", settings=settings, ema=0.9, learning_rate=3e-3)
    assert same(rest.final, whole.final)
    assert rest.metrics == whole.metrics
    assert rest.fitted == whole.fitted


def test_a_run_that_is_over_is_not_trained_again(train):
    first = train()
    task = toy(stage_of())
    task.after_step = lambda step: pytest.fail("a step was made")
    assert same(train(task).final, first.final)


def test_cancelling_within_a_validation_saves_and_validates_again(train, tmp_path):
    whole = train(folder="whole", ema=0.9)
    task = toy(stage_of())

    def cancelled(network, progress):
        raise CancelledError("Cancelled: nothing was written.")

    task.validate = cancelled
    with pytest.raises(CancelledError, match="after step 10 of 40"):
        train(task, folder="cut", ema=0.9)
    rest = train(folder="cut", ema=0.9)
    assert rest.metrics == whole.metrics
    assert same(rest.final, whole.final)


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("it was executed",))


def test_a_state_from_a_stranger_executes_nothing(tmp_path):
    torch.save({"version": 1, "step": Hostile()}, tmp_path / "state.pt")
    with pytest.raises(ProstateXferError, match="cannot be read: begin the training anew with --restart"):
        load_state(tmp_path)
    (tmp_path / "state.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ProstateXferError, match="cannot be read"):
        load_state(tmp_path)


@pytest.mark.parametrize("content", [b"", b"abc", "cut"])
def test_a_damaged_state_is_told_in_a_sentence(tmp_path, content):
    save_state(tmp_path, {"step": 3})
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:-40] if content == "cut" else content)
    with pytest.raises(ProstateXferError, match="begin the training anew with --restart"):
        load_state(tmp_path)


def test_a_state_of_another_network_is_told_in_a_sentence(train):
    train()
    with pytest.raises(ProstateXferError, match="does not fit what the recipe builds now"):
        train(settings=ToySettings(norm="none"))
