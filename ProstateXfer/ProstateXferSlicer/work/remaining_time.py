# SPDX-License-Identifier: Apache-2.0
"""How long a run will still take, from how fast it went of late."""

import time
from collections import deque
from collections.abc import Callable

# Less than this tells nothing about the speed.
_SHORTEST_S = 3.0
_SMALLEST_PART = 0.02
# The first step is likely to be the odd one (a model is loaded): of it, more must be seen.
_SMALLEST_FIRST_PART = 0.1
_JITTER = 0.005
# The speed is that of the last half of a step, and of these seconds at least: the first tile, with its warming up, is
# forgotten, a hiccup is not taken for the speed.
_WINDOW_S = 10.0
_POINT_EVERY_S = 0.2
_MOST_POINTS = 500
_STALLED_S = 10.0


class RemainingTime:
    """Estimates the seconds left from the reported fractions of the whole run; None until it knows.

    Steps differ in speed, loading a model and a network's slices for example, so each is judged by itself. Until a new
    step is old enough the former estimate counts down. A fraction that falls back starts a new run.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step: str | None = None
        self._isFirstStep = True
        # Of (time, fraction): where this step and the second one began, and the latest in this step.
        self._stepBegan = (0.0, 0.0)
        self._secondBegan: tuple[float, float] | None = None
        self._points: deque[tuple[float, float]] = deque(maxlen=_MOST_POINTS)
        self._fraction = 0.0
        self._estimate: tuple[float, float] | None = None  # (time, seconds left at that time)

    def update(self, step: str, fraction: float) -> None:
        """`fraction` (0..1) of the whole run is done, and `step` is under way."""
        now = self._clock()
        if fraction < self._fraction - _JITTER:
            self._step, self._secondBegan, self._estimate, self._isFirstStep = None, None, None, True
        if step != self._step:
            if self._step is not None and self._isFirstStep:
                self._secondBegan, self._isFirstStep = (now, fraction), False
            self._step, self._stepBegan = step, (now, fraction)
            self._points.clear()
        self._fraction = fraction
        if not self._points or now - self._points[-1][0] >= _POINT_EVERY_S:
            self._points.append((now, fraction))
        speed = self._speed(now, fraction)
        if speed is not None:
            self._estimate = (now, (1 - fraction) / speed)

    def secondsLeft(self) -> float | None:
        """The estimate now; None while there is none, or when it has proved wrong."""
        if self._estimate is None:
            return None
        madeAt, seconds = self._estimate
        left = seconds - (self._clock() - madeAt)
        return None if left < -_STALLED_S else max(left, 0.0)

    def text(self) -> str:
        """The estimate in words, "about 2 min left"; empty while there is none."""
        seconds = self.secondsLeft()
        if seconds is None:
            return ""
        if seconds < 10:
            return "a few seconds left"
        if seconds < 90:
            return f"about {round(seconds, -1):.0f} s left"
        minutes = round(seconds / 60)
        if minutes < 60:
            return f"about {minutes} min left"
        hours, tens = divmod(round(minutes / 10), 6)
        return f"about {hours} h {10 * tens} min left" if tens else f"about {hours} h left"

    def _speed(self, now: float, fraction: float) -> float | None:
        """Fraction per second, in this step, or, while that is too young, since the first one ended."""
        window = max(_WINDOW_S, (now - self._stepBegan[0]) / 2)
        recent = next((point for point in self._points if point[0] >= now - window), self._stepBegan)
        smallest = _SMALLEST_FIRST_PART if self._isFirstStep else _SMALLEST_PART
        for time_, done in (recent, self._stepBegan, self._secondBegan or self._stepBegan):
            if now - time_ >= _SHORTEST_S and fraction - done >= smallest:
                return (fraction - done) / (now - time_)
        return None
