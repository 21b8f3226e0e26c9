# SPDX-License-Identifier: Apache-2.0
"""The toy task: a network of an "encoder" and a "head" learns y = x0 * x1 - x2 from numbered samples."""

from dataclasses import dataclass

import torch
from torch import nn

from ProstateXferLib.checkpoints.card import ModelCard, Score
from ProstateXferLib.checkpoints.file_format import read_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.tasks.registry import TASKS, TaskKind

KIND = TaskKind(settings="toy_training.task:ToySettings", build="toy_training.task:build")


def register() -> None:
    """Make the task known to this process as "toy"."""
    TASKS["toy"] = KIND


@dataclass(frozen=True)
class Bend:
    """One of two kinds of nested settings."""

    degrees: float = 1.0


@dataclass(frozen=True)
class Stretch:
    """The other."""

    factor: float
    axes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class ToySettings:
    """`norm` is "batch", "layer" or "none"; `dropout` draws from torch's generator; the rest is for reading's tests."""

    norm: str = "layer"
    dropout: float = 0.0
    samples: int = 24
    spoil_from: int = -1
    change: Bend | Stretch | None = None
    sizes: tuple[tuple[int, float], ...] = ()


class ToyNetwork(nn.Module):
    """(B, 4) -> (B, 1)."""

    def __init__(self, settings: ToySettings) -> None:
        super().__init__()
        norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}.get(settings.norm, lambda width: nn.Identity())
        self.encoder = nn.Sequential(nn.Linear(4, 16), norm(16), nn.GELU(), nn.Dropout(settings.dropout))
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


class ToyLearner(nn.Module):
    def __init__(self, network: ToyNetwork, spoil_from: int) -> None:
        super().__init__()
        self.network, self._spoil_from = network, spoil_from

    def forward(self, batch, step):
        error = (self.network(batch["x"]).float() - batch["y"]).square().mean()
        return error * (float("nan") if 0 <= self._spoil_from <= step else 1.0), {"root": error.detach().sqrt()}


class ToySamples:
    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        x = torch.randn(4, generator=torch.Generator().manual_seed(1000 * self._seed + index))
        return {"x": x, "y": (x[0] * x[1] - x[2])[None]}


class ToyTask:
    def __init__(self, context) -> None:
        settings: ToySettings = context.stage.settings
        self.context = context
        self.network = ToyNetwork(settings)
        if context.start is not None:
            card, weights = context.start
            own = self.network.state_dict()
            for name in weights:
                if name not in own:
                    raise ProstateXferError(f"The start '{card.name}' has the weight '{name}', which a toy has not.")
            self.network.load_state_dict(own | dict(weights))
        self.learner = ToyLearner(self.network, settings.spoil_from)
        self.samples = ToySamples(settings.samples, context.seed)
        self.heard: list[tuple[str, int]] = []

    def after_backward(self, step):
        self.heard.append(("backward", step))

    def after_step(self, step):
        self.heard.append(("step", step))

    def validate(self, network, progress):
        if not self.context.data.validation:
            return {}
        held_out = [ToySamples(64, 99)[i] for i in range(64)]
        x, y = (torch.stack([sample[key] for sample in held_out]).to(self.context.device) for key in ("x", "y"))
        return {"error": (network(x) - y).square().mean().item()}

    def card(self):
        return ModelCard("toy", "encoder", "dinov3", title=self.context.chain.texts.title)

    def weights(self, network):
        return dict(network.state_dict())

    def finish(self, checkpoint, cases, progress):
        self.heard.append(("finish", len(cases)))

    def score(self, checkpoint, cases, progress):
        _, weights = read_checkpoint(checkpoint)
        return [Score("mean weight", round(weights["head.weight"].float().mean().item(), 6), "toys", len(cases))]


def build(context):
    return ToyTask(context)
