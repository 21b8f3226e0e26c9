# SPDX-License-Identifier: Apache-2.0
"""What changes in the course of self-supervised training besides the learning rate, as functions of the step.

Source: DINOv3's two generations of schedules (reference notes 3.2 to 3.4; golden ssl_losses.npz).
"""

import math
from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class Course:
    """A value that rises evenly to its peak, goes on along half a cosine to its end, and stays there.

    Attributes:
        start, peak, end: values at the first step, after the warm-up, and from the end of the cosine on.
        warmup_epochs: length of the rise.
        cosine_epochs: length of the half cosine; None: all that is left.
    """

    start: float
    peak: float
    end: float
    warmup_epochs: float = 0.0
    cosine_epochs: float | None = None

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0 or (self.cosine_epochs is not None and self.cosine_epochs < 0):
            raise ProstateXferError("The lengths of a course must not be negative.")

    @classmethod
    def constant(cls, value: float) -> "Course":
        """The same value at every step."""
        return cls(value, value, value)

    def at(self, step: int, *, steps_per_epoch: float, steps: int) -> float:
        """Value at a step of a stage of `steps` steps."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.start + (self.peak - self.start) * step / warmup
        cosine = steps - warmup if self.cosine_epochs is None else round(self.cosine_epochs * steps_per_epoch)
        if step - warmup >= cosine - 1:  # the last step of the cosine is its end
            return self.end
        return self.end + (self.peak - self.end) * (1 + math.cos(math.pi * (step - warmup) / (cosine - 1))) / 2


def even_rise(step: int, start: float, end: float, *, steps: int) -> float:
    """From `start` at step 0 evenly to `end` at step `steps` - 1, and `end` from then on (teacher temperature)."""
    return end if step >= steps - 1 else start + (end - start) * step / (steps - 1)
