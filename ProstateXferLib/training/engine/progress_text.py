# SPDX-License-Identifier: Apache-2.0
"""How a training says where it is: step, loss, speed, time left."""

import time

from ProstateXferLib.progress import Progress


class Pace:
    """Speed since this process began, validations included: what is left takes as long.

    Args:
        first_step: step that the run goes on from.
        total_steps: step at which it ends.
    """

    def __init__(self, first_step: int, total_steps: int) -> None:
        self._first_step, self._total_steps = first_step, total_steps
        self._began_s = time.monotonic()

    def step_s(self, step: int) -> float:
        """Mean seconds of a step; before the first, as if one had been made."""
        return (time.monotonic() - self._began_s) / max(1, step - self._first_step)

    def at(self, step: int, loss: float) -> tuple[float, str]:
        """Fraction done (0..1) and "step 120/6000  loss 0.1234  3.1 steps/s  31 min left"."""
        speed = (step - self._first_step) / max(time.monotonic() - self._began_s, 1e-9)
        text = f"step {step}/{self._total_steps}  loss {loss:.4f}  {_speed(speed)} steps/s"
        left = (
            f"  {duration((self._total_steps - step) / speed)} left" if speed > 0 and step < self._total_steps else ""
        )
        return step / self._total_steps, text + left


def _speed(steps_per_s: float) -> str:
    return (
        f"{steps_per_s:.0f}"
        if steps_per_s >= 100
        else f"{steps_per_s:.1f}"
        if steps_per_s >= 1
        else f"{steps_per_s:.2f}"
    )


def duration(seconds: float) -> str:
    """A time for people: "45 s", "31 min", "5.2 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class WithoutBar:
    """Progress for a validation within a training: the bar stays the training's."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Not shown."""

    def warn(self, message: str) -> None:
        """Pass the warning on."""
        self._whole.warn(message)

    def cancelled(self) -> bool:
        """Whether the training was cancelled."""
        return self._whole.cancelled()
