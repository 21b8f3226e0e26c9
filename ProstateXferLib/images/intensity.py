# SPDX-License-Identifier: Apache-2.0
"""How voxel values are scaled before a network sees them, and how HU come back from its output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ProstateXferLib.errors import ProstateXferError

KINDS = ("zscore", "percentile", "percentile01", "window", "standardise")
_BY_PERCENTILES = ("percentile", "percentile01")


@dataclass(frozen=True)
class IntensityRule:
    """One of five rules, each over the whole volume.

    `zscore`: mean 0, standard deviation 1 (ddof 0), after clipping to the percentiles where they are given.
    `percentile`: clipped to the two percentiles (1 and 99 unless given), then these to -1 and 1.
    `percentile01`: likewise, but to 0 and 1 (SAP).
    `window`: clipped to `lower` and `upper` (e.g. HU), then these to -1 and 1; the only rule that can be undone.
    `standardise`: `mean` subtracted, divided by `deviation`, both of the training set (in-domain transfer), after
        clipping to `lower` and `upper` where they are given (nnU-Net's rule for CT).
    """

    kind: str
    lower: float | None = None
    upper: float | None = None
    lower_percentile: float | None = None
    upper_percentile: float | None = None
    mean: float | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        """Fill in the usual percentiles and refuse what makes no sense."""
        if self.kind not in KINDS:
            raise ProstateXferError(f"Intensity rule '{self.kind}' is unknown; use one of {', '.join(KINDS)}.")
        if self.kind in _BY_PERCENTILES and self.lower_percentile is None and self.upper_percentile is None:
            object.__setattr__(self, "lower_percentile", 1.0)
            object.__setattr__(self, "upper_percentile", 99.0)
        window = _bounds("lower", self.lower, "upper", self.upper)
        percentiles = _bounds(
            "lower_percentile", self.lower_percentile, "upper_percentile", self.upper_percentile, limits=(0, 100)
        )
        fixed = self.kind in ("window", "standardise")
        if (self.kind == "window" and window is None) or (percentiles if fixed else window) is not None:
            raise ProstateXferError(
                f"Intensity rule '{self.kind}' is given the wrong limits: 'window' takes lower and upper, "
                "'standardise' may, the others take lower_percentile and upper_percentile."
            )
        self._check_statistics()

    def _check_statistics(self) -> None:
        given = (self.mean, self.deviation)
        if self.kind != "standardise":
            if given != (None, None):
                raise ProstateXferError(f"Intensity rule '{self.kind}' takes no mean and deviation: leave them out.")
            return
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in given) or self.deviation <= 0:
            raise ProstateXferError(
                f"Intensity rule 'standardise' has mean {self.mean} and deviation {self.deviation}; both must be "
                "numbers (those of the training set), the deviation above zero."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model card; `from_json` reads them back."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> IntensityRule:
        """The rule of a model card's entry."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise ProstateXferError(
                f"The intensity rule of the model card is incomplete or has an unknown entry ({error}); correct it."
            ) from error


def _bounds(
    lower_name: str,
    lower: float | None,
    upper_name: str,
    upper: float | None,
    *,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float] | None:
    """Both bounds, or None where neither is given."""
    if lower is None and upper is None:
        return None
    numbers = all(isinstance(v, int | float) and math.isfinite(v) for v in (lower, upper))
    if not numbers or not limits[0] <= lower < upper <= limits[1]:
        raise ProstateXferError(
            f"The intensity rule has {lower_name} {lower} and {upper_name} {upper}; "
            "both must be numbers, and the lower one must be smaller."
        )
    return lower, upper


def normalize(volume_zyx: np.ndarray, rule: IntensityRule) -> np.ndarray:
    """The whole volume scaled by the rule, float32. Never call it with single slices: the statistics would differ."""
    volume = np.asarray(volume_zyx, dtype=np.float32)
    if rule.kind == "window":
        return _to_unit_range(volume, rule.lower, rule.upper)
    if rule.kind == "standardise":
        clipped = volume if rule.lower is None else np.clip(volume, np.float32(rule.lower), np.float32(rule.upper))
        return ((clipped - np.float32(rule.mean)) / np.float32(rule.deviation)).astype(np.float32, copy=False)
    if rule.kind in _BY_PERCENTILES:
        low, high = _percentiles(volume, rule)
        if low == high:
            raise ProstateXferError(
                f"The image is flat: its {rule.lower_percentile:g}. and {rule.upper_percentile:g}. percentile are both "
                f"{low:g}; check that the right image was chosen."
            )
        return (_to_unit_range if rule.kind == "percentile" else _to_zero_one)(volume, low, high)
    if rule.lower_percentile is not None:
        volume = np.clip(volume, *_percentiles(volume, rule))
    mean = volume.mean(dtype=np.float64)
    deviation = volume.std(dtype=np.float64)
    # The floor is nnU-Net's; it turns a flat image into zeros instead of infinities.
    return ((volume - np.float32(mean)) / np.float32(max(deviation, 1e-8))).astype(np.float32, copy=False)


def denormalize(array: np.ndarray, rule: IntensityRule) -> np.ndarray:
    """A network's output in -1..1 as values of the rule's window (HU), float32; not rounded, not clipped."""
    if rule.kind != "window":
        raise ProstateXferError(
            f"An image scaled by '{rule.kind}' cannot be scaled back without its statistics; "
            "a model that makes HU needs the rule 'window' for its output."
        )
    return ((np.asarray(array, dtype=np.float32) + 1) / 2 * (rule.upper - rule.lower) + rule.lower).astype(np.float32)


def _percentiles(volume: np.ndarray, rule: IntensityRule) -> tuple[float, float]:
    """The rule's two percentiles of the volume, linearly interpolated."""
    low, high = np.percentile(volume, (rule.lower_percentile, rule.upper_percentile))
    return float(low), float(high)


def _to_unit_range(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    """The volume clipped to low..high and mapped linearly to -1..1."""
    return (2 * _to_zero_one(volume, low, high) - 1).astype(np.float32, copy=False)


def _to_zero_one(volume: np.ndarray, low: float, high: float) -> np.ndarray:
    """The volume clipped to low..high and mapped linearly to 0..1."""
    clipped = np.clip(volume, np.float32(low), np.float32(high))
    # Divided, not multiplied by a reciprocal, so that the limits become 0 and 1 exactly.
    return ((clipped - np.float32(low)) / (np.float32(high) - np.float32(low))).astype(np.float32, copy=False)
