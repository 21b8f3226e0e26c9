# SPDX-License-Identifier: Apache-2.0
"""When a stage validates, which weights it keeps, and when it stops early."""

import math

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
from toy_training.engine import stage_of, toy, training_in


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""
    return training_in(tmp_path)


def values_from(*errors):
    values = iter(errors)
    return lambda network, progress: {"error": next(values), "other": 0.0}


def test_the_best_validated_weights_are_kept_beside_the_last(train):
    task, heads = toy(stage_of()), []
    task.validate = values_from(0.5, 0.3, math.nan, 0.4)
    task.after_step = lambda step: heads.append(task.network.head.weight.detach().clone())
    run = train(task)
    weights, selected = run.kept["best"]
    assert (selected.metric, selected.value, selected.step) == ("error", 0.3, 20)
    assert torch.equal(weights["head.weight"], heads[19])
    assert (run.fitted.best, run.fitted.final.value, run.fitted.final.step) == (selected, 0.4, 40)


def test_a_stage_that_no_longer_improves_stops_early_and_stays_so(train):
    task = toy(stage_of())
    task.validate = values_from(0.5, 0.3, 0.35, 0.3)
    run = train(task, patience=2, epochs=9)
    assert (run.fitted.steps, run.fitted.best.step) == (40, 20)
    again = toy(stage_of())
    again.after_step = lambda step: pytest.fail("it went on")
    assert train(again, patience=2, epochs=9).fitted == run.fitted


def test_a_metric_that_nobody_validates_is_refused_by_name(train):
    with pytest.raises(ProstateXferError, match="metric 'dice' is not validated: choose one of error"):
        train(metric="dice")
    with pytest.raises(ProstateXferError, match=r"metric 'error' is not validated: choose one of \(none\)"):
        train(folder="b", keep="best", validates=False)


def test_validation_comes_after_every_so_many_epochs_and_at_the_end(train):
    run = train(validate_epochs=3)
    assert [line["step"] for line in run.metrics if line["kind"] == "validation"] == [30, 40]
