# SPDX-License-Identifier: Apache-2.0
"""What a training tells: progress and logs."""

import json
import math
import re

import pytest

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
from ProstateXferLib.training.engine import fit as fit_module
from ProstateXferLib.training.engine.logs import Logs, read_metrics
from ProstateXferLib.training.engine.progress_text import duration
from toy_training.engine import Watcher, stage_of, toy, training_in


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""
    return training_in(tmp_path)


def test_progress_tells_step_loss_speed_and_time_left(train):
    watcher = Watcher()
    train(watcher=watcher)
    fractions = [fraction for _, fraction, _ in watcher.reports]
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    assert re.fullmatch(r"step 10/40  loss \d+\.\d{4}  [\d.]+ steps/s  \d+ s left", watcher.reports[0][2])
    assert watcher.reports[-1][2].endswith("steps/s")
    assert [duration(seconds) for seconds in (44.6, 31 * 60, 5.2 * 3600)] == ["45 s", "31 min", "5.2 h"]


def test_logs_hold_means_of_what_the_steps_gave(train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    task, losses = toy(stage_of()), []
    task.learner.register_forward_hook(lambda module, inputs, output: losses.append(output[0].item()))
    run = train(task)
    lines = [line for line in run.metrics if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert lines[1]["loss"] == pytest.approx(sum(losses[10:20]) / 10, rel=1e-5)
    assert {"root", "gradient_norm", "learning_rate/rest"} <= lines[0].keys()
    assert [line["step"] for line in run.metrics if line["kind"] == "validation"] == [10, 20, 30, 40]
    board = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    drawn = [event.value for event in board.Scalars("train/loss")]
    assert drawn == pytest.approx([line["loss"] for line in lines], rel=1e-6)


def test_a_log_that_was_cut_off_is_taken_back_to_where_the_run_goes_on(tmp_path):
    lines = [{"kind": "train", "step": step, "loss": 1.0} for step in (10, 20, 30)]
    lines.insert(1, {"kind": "validation", "step": 10, "error": 1.0})
    lines.insert(3, {"kind": "validation", "step": 20, "error": 1.0})
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tra'
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    logs = Logs(tmp_path, step=20, validated=10)
    logs.write("train", 30, {"loss": math.nan})
    logs.close()
    assert [(line["kind"], line["step"]) for line in read_metrics(tmp_path)] == [
        ("train", 10),
        ("validation", 10),
        ("train", 20),
        ("train", 30),
    ]
    assert read_metrics(tmp_path)[-1]["loss"] is None


def test_reports_come_every_twenty_steps_within_a_long_epoch(train):
    assert fit_module.REPORT_STEPS == 20
    run = train(epochs=1, steps_per_epoch=50)
    assert [line["step"] for line in run.metrics if line["kind"] == "train"] == [20, 40, 50]
