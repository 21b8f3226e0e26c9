# SPDX-License-Identifier: Apache-2.0
"""The training loop: one optimiser, one schedule, one stage. Recipes say what is trained; this says how."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.progress import Progress

REPORT_EVERY = 20
"""Steps between progress reports; the loss shown is their mean."""


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        steps: optimiser steps.
        batch_size: crops per step.
        learning_rate: peak rate of everything but the encoder.
        encoder_learning_rate: peak rate of the encoder; 0 freezes it (MR-DINOv3's supervised stage).
        weight_decay: decoupled; not applied to biases, norms, LayerScale and tokens.
        warmup_steps: linear warm-up.
        clip_norm: largest gradient norm.
        ema: decay of the averaged weights that are kept; 0 keeps the last ones.
        bf16: run the networks under bfloat16 autocast.
    """

    steps: int
    batch_size: int = 8
    learning_rate: float = 3e-4
    encoder_learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup_steps: int = 500
    clip_norm: float = 1.0
    ema: float = 0.999
    bf16: bool = True

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or self.warmup_steps < 0:
            raise ProstateXferError("A schedule needs at least one step, one crop a step and no negative warm-up.")
        if not 0 <= self.ema < 1:
            raise ProstateXferError(f"The schedule's ema is {self.ema}: give a decay from 0 up to, but not, 1.")
        rates = (self.learning_rate, self.encoder_learning_rate, self.weight_decay)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates) or not self.clip_norm > 0:
            raise ProstateXferError("The schedule's rates must be finite and not negative, its clip_norm above zero.")


def fit(
    network: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    *,
    schedule: Schedule,
    encoder: nn.Module | None,
    device: torch.device,
    progress: Progress,
    snapshot: Callable[[nn.Module, int], None] | None = None,
    snapshot_every: int = 500,
) -> nn.Module:
    """Train `network` in place and return it with the averaged weights, in evaluation mode.

    Args:
        network: what is trained.
        batches: endless training batches on the CPU.
        loss_of: (network, batch) -> scalar loss.
        schedule: see `Schedule`.
        encoder: the part with its own learning rate; frozen and kept in eval mode when that rate is 0.
        device: where to train.
        progress: told the loss; asked whether to stop.
        snapshot: called with the averaged network and the step every `snapshot_every` steps and at the end.
        snapshot_every: steps between snapshots.

    Raises:
        ProstateXferError: the loss became NaN or infinite.
        CancelledError: the user stopped; the last snapshot stays.
    """
    network.to(device).train()
    frozen = encoder is not None and schedule.encoder_learning_rate == 0
    if frozen:
        encoder.requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(_groups(network, encoder, schedule), betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(step, schedule))
    average = _Average(network, schedule.ema)
    running, counted = 0.0, 0
    for step, batch in zip(range(1, schedule.steps + 1), batches, strict=False):
        if progress.cancelled():
            kept = "the last snapshot stays" if step > snapshot_every and snapshot else "nothing was written"
            raise CancelledError(f"Cancelled before step {step} of {schedule.steps}: {kept}.")
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
            loss = loss_of(network, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), schedule.clip_norm)
        optimiser.step()
        rate.step()
        average.update(step)
        running, counted = running + loss.item(), counted + 1
        if step % REPORT_EVERY == 0 or step == schedule.steps:
            _report(progress, step, schedule, running / counted)
            running, counted = 0.0, 0
        if snapshot is not None and (step % snapshot_every == 0 or step == schedule.steps):
            with average.applied():
                snapshot(network.eval(), step)
            network.train()
            if frozen:
                encoder.eval()
    average.keep()
    return network.eval()


def _report(progress: Progress, step: int, schedule: Schedule, loss: float) -> None:
    if not math.isfinite(loss):
        raise ProstateXferError(
            f"The training loss became {loss} near step {step}: lower the learning rate or switch bf16 off in "
            "the recipe."
        )
    progress.update("train", step / schedule.steps, f"step {step}/{schedule.steps}  loss {loss:.4f}")


def _factor(step: int, schedule: Schedule) -> float:
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _groups(network: nn.Module, encoder: nn.Module | None, schedule: Schedule) -> list[dict]:
    in_encoder = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        rate = schedule.encoder_learning_rate if id(parameter) in in_encoder else schedule.learning_rate
        decay = schedule.weight_decay if parameter.ndim > 1 and parameter.shape[0] > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


class _Average:
    """Exponential moving average of parameters and buffers, swapped in for snapshots."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._kept = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))  # young averages forget their random start
        for key, value in self._network.state_dict().items():
            if value.is_floating_point() and decay:
                self._kept[key].lerp_(value, 1 - decay)
            else:
                self._kept[key].copy_(value)

    def keep(self) -> None:
        self._network.load_state_dict(self._kept)

    def applied(self) -> "_Swap":
        return _Swap(self._network, self._kept)


class _Swap:
    def __init__(self, network: nn.Module, state: dict[str, Tensor]) -> None:
        self._network, self._state = network, state

    def __enter__(self) -> None:
        self._own = {key: value.detach().clone() for key, value in self._network.state_dict().items()}
        self._network.load_state_dict(self._state)

    def __exit__(self, *_: object) -> None:
        self._network.load_state_dict(self._own)
