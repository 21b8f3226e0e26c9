# SPDX-License-Identifier: Apache-2.0
"""The training loop: it learns, repeats itself, leaves frozen parts alone, averages, resumes, stops when it must."""

import dataclasses
import json
import math
import pickle
import re
from itertools import chain, pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ProstateXferLib.errors import CancelledError, ProstateXferError

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")

from ProstateXferLib.training.engine import fit as fit_module
from ProstateXferLib.training.engine.batches import Share
from ProstateXferLib.training.engine.fabric import make_fabric
from ProstateXferLib.training.engine.fit import fit
from ProstateXferLib.training.engine.logs import Logs, read_metrics
from ProstateXferLib.training.engine.parameter_groups import assign_parameters, make_optimiser, may_fuse
from ProstateXferLib.training.engine.progress_text import duration
from ProstateXferLib.training.engine.rates import rate_factor, stage_length, weight_decay_factor
from ProstateXferLib.training.engine.state import load_state, save_state
from ProstateXferLib.training.recipe.schema import (
    Group,
    Loop,
    Network,
    Optimiser,
    Schedule,
    Selection,
    Source,
    Stage,
)
from toy_training.task import ToySettings, ToyTask

CPU = torch.device("cpu")


class Watcher:
    def __init__(self, stop_after=None):
        self.reports, self.checks, self.stop_after = [], 0, stop_after

    def update(self, step, fraction, message=""):
        self.reports.append((step, fraction, message))

    def warn(self, message):
        raise AssertionError(message)

    def cancelled(self):
        self.checks += 1
        return self.stop_after is not None and self.checks > self.stop_after

    @property
    def losses(self):
        return [float(re.search(r"loss (\S+)", message)[1]) for _, _, message in self.reports]


def stage_of(**changes):
    """A stage of 40 steps of 8 samples; changes by field name of its parts."""
    parts = {
        "schedule": Schedule(epochs=4, steps_per_epoch=10, decay="constant"),
        "optimiser": Optimiser(learning_rate=1e-2, weight_decay=0.0),
        "loop": Loop(batch_size=8),
        "selection": Selection("final", "error", higher_is_better=False),
    }
    whole = {"settings": ToySettings(), "groups": ()}
    for name, value in changes.items():
        if name in whole:
            whole[name] = value
            continue
        part = next(part for part, now in parts.items() if name in {field.name for field in dataclasses.fields(now)})
        parts[part] = dataclasses.replace(parts[part], **{name: value})
    return Stage("only", "toy", network=Network("toy"), data=(Source("phantoms"),), **parts, **whole)


def toy(stage, *, seed=1, validates=True):
    torch.manual_seed(seed)
    recipe = SimpleNamespace(texts=SimpleNamespace(title="t"))
    data = SimpleNamespace(validation=(1,) if validates else ())
    return ToyTask(SimpleNamespace(stage=stage, chain=recipe, data=data, start=None, seed=seed, device=CPU))


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""

    def run(task=None, *, folder="run", watcher=None, seed=1, validates=True, **changes):
        stage = stage_of(**changes)
        task = task or toy(stage, seed=seed, validates=validates)
        path, kept = tmp_path / folder, {}
        path.mkdir(exist_ok=True)

        def keep(name, weights, selected):
            kept[name] = ({key: value.clone() for key, value in weights.items()}, selected)

        fabric = make_fabric(CPU, stage.loop.precision)
        fitted = fit(task, stage, seed=seed, folder=path, fabric=fabric, keep=keep, progress=watcher or Watcher())
        final = kept["final"][0]
        return SimpleNamespace(
            task=task, fitted=fitted, kept=kept, final=final, folder=path, metrics=read_metrics(path)
        )

    return run


def copy_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


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


def test_a_part_with_its_own_small_rate_moves_less_than_with_the_common_one(train):
    start = toy(stage_of()).network.encoder[0].weight.detach().clone()
    moved = []
    for factor in (1e-3, 1.0):
        run = train(folder=str(factor), groups=(Group(("encoder",), factor=factor),))
        moved.append((run.final["encoder.0.weight"] - start).norm().item())
        assert run.metrics[0]["learning_rate/encoder"] == pytest.approx(1e-2 * factor)
    assert 0 < moved[0] < 0.01 * moved[1]


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


def test_a_batch_worked_off_in_parts_gives_what_it_gives_at_once(train):
    whole, parts = train(folder="a"), train(folder="b", accumulate=4)
    for name, value in whole.final.items():
        assert torch.allclose(parts.final[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (1, 4), (3, 2)])
def test_parts_and_processes_share_a_batch_in_order(parts, processes):
    shares = [Share(12, parts, process, processes) for process in range(processes)]
    numbers = [list(piece) for share in shares for piece in share.numbers(5)]
    assert list(chain.from_iterable(numbers)) == list(range(60, 72))
    assert {len(piece) for piece in numbers} == {12 // (parts * processes)}


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(ProstateXferError, match="A batch of 12 cannot be worked off in 1 equal parts by each of 5"):
        Share(12, 1, 0, 5)


def test_worker_processes_change_nothing_but_the_speed(train):
    assert same(train(folder="a", epochs=1).final, train(folder="b", epochs=1, workers=2).final)


class Broken:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise ProstateXferError(f"Case {index // 8} is broken.")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_made_ends_the_training_with_its_own_sentence(train, workers):
    task = toy(stage_of())
    task.samples = Broken()
    with pytest.raises(ProstateXferError, match=r"\ACase 0 is broken\.\Z"):
        train(task, workers=workers)


def test_long_gradients_are_cut(train):
    """Plain SGD with rate 1 moves as far as the gradient is long."""
    task, places = toy(stage_of()), []
    task.after_backward = lambda step: places.append(nn.utils.parameters_to_vector(task.network.parameters()).detach())
    options = {"learning_rate": 1.0, "momentum": 0.0, "clip_norm": 1e-3, "epochs": 1}
    train(task, **options, **{"name": "sgd"})
    lengths = [(b - a).norm().item() for a, b in pairwise(places)]
    assert lengths == pytest.approx([1e-3] * len(lengths), rel=1e-2)


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


def test_reports_come_every_twenty_steps_within_a_long_epoch(train):
    assert fit_module.REPORT_STEPS == 20
    run = train(epochs=1, steps_per_epoch=50)
    assert [line["step"] for line in run.metrics if line["kind"] == "train"] == [20, 40, 50]
