# SPDX-License-Identifier: Apache-2.0
"""The training loop on the toy task, without recipe files and data: for the tests of the engine."""

import dataclasses
import re
from types import SimpleNamespace

import torch

from ProstateXferLib.training.engine.fabric import make_fabric
from ProstateXferLib.training.engine.fit import fit
from ProstateXferLib.training.engine.logs import read_metrics
from ProstateXferLib.training.recipe.schema import Loop, Network, Optimiser, Schedule, Selection, Source, Stage
from toy_training.task import ToySettings, ToyTask

CPU = torch.device("cpu")


class Watcher:
    """Progress that keeps the reports, and stops after so many questions whether to."""

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
    """The toy task of a stage, with or without cases to validate on."""
    torch.manual_seed(seed)
    recipe = SimpleNamespace(texts=SimpleNamespace(title="t"))
    data = SimpleNamespace(validation=(1,) if validates else ())
    return ToyTask(SimpleNamespace(stage=stage, chain=recipe, data=data, start=None, seed=seed, device=CPU))


def training_in(place):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it, in folders of a place."""

    def run(task=None, *, folder="run", watcher=None, seed=1, validates=True, **changes):
        stage = stage_of(**changes)
        task = task or toy(stage, seed=seed, validates=validates)
        path, kept = place / folder, {}
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
    """The weights of a network as they are now."""
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first, second):
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
