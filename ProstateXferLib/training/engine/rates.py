# SPDX-License-Identifier: Apache-2.0
"""How long a stage is, and which share of its peak learning rate every step has."""

import math
from dataclasses import dataclass

from ProstateXferLib.training.recipe.schema import Optimiser, Schedule


@dataclass(frozen=True)
class Length:
    """A stage in optimiser steps: `total_steps` of them, an epoch ending (and perhaps a validation) after every
    `steps_per_epoch`."""

    steps_per_epoch: int
    total_steps: int


def stage_length(schedule: Schedule, *, samples: int, batch_size: int) -> Length:
    """The length of a stage whose data have `samples` samples in one pass."""
    steps_per_epoch = schedule.steps_per_epoch or max(1, math.ceil(samples / batch_size))
    total_steps = schedule.epochs * steps_per_epoch
    if schedule.max_steps is not None:
        total_steps = min(total_steps, schedule.max_steps)
    return Length(min(steps_per_epoch, total_steps), total_steps)


def rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """Share of the peak rate at `step` (0 is the first) of `total_steps`.

    A stage that `max_steps` cuts short goes through the same warm-up and decay, compressed.

    Sources: PyTorch's schedulers; nnU-Net v2's PolyLRScheduler (arXiv 1809.10486's code); DINOv3's linear warm-up and
    cosine (arXiv 2508.10104's code), whose ends `Schedule.warmup` and `Schedule.last_is_final` name.
    """
    units = schedule.epochs if schedule.by_epoch else total_steps
    unit = min(units - 1, step * schedule.epochs // total_steps) if schedule.by_epoch else step
    units_per_epoch = units / schedule.epochs
    warmup = round(schedule.warmup_epochs * units_per_epoch)
    if unit < warmup:
        return _warmup_factor(schedule, unit, warmup)
    done = unit - warmup
    if schedule.decay == "constant":
        return 1.0
    if schedule.decay == "step":
        # A hair more: 10 steps of 1/3 epoch shall be past the third epoch whatever the division rounds to.
        return schedule.step_factor ** int(done / (units_per_epoch * schedule.step_epochs) + 1e-9)
    length = units - warmup if schedule.decay_epochs is None else round(schedule.decay_epochs * units_per_epoch)
    left = 1 - min(1.0, done / max(1, length - schedule.last_is_final))
    if schedule.decay == "polynomial":
        return left**schedule.power
    share = left if schedule.decay == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return schedule.final_factor + (1 - schedule.final_factor) * share


def weight_decay_factor(optimiser: Optimiser, step: int, total_steps: int) -> float:
    """What the groups' weight decay is multiplied by: 1, or on the way along a cosine to `weight_decay_end` (DINO)."""
    if optimiser.weight_decay_end is None or optimiser.weight_decay == 0:
        return 1.0
    done = step / max(1, total_steps - 1)
    end = optimiser.weight_decay_end / optimiser.weight_decay
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done))


def _warmup_factor(schedule: Schedule, unit: int, warmup: int) -> float:
    if schedule.warmup == "skip_zero":
        return (unit + 1) / warmup
    if schedule.warmup == "skip_peak":
        return unit / warmup
    return unit / (warmup - 1) if warmup > 1 else 1.0
