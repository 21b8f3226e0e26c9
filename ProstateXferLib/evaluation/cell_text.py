# SPDX-License-Identifier: Apache-2.0
"""Numbers as cells of a table: what does not exist is a dash, and no zero has a sign."""

import math

from ProstateXferLib.metrics.statistics import Summary

NOTHING = "–"
_SMALLEST_P = 0.001


def number_text(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """The number with fixed decimals; infinity as its sign."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return format(value, f"{'+' if sign else ''}z.{decimals}f").replace("-", "−")


def mean_median_text(summary: Summary | None, decimals: int) -> str:
    """`0.812 (0.840)`."""
    if summary is None or not summary.n_used:
        return NOTHING
    return f"{number_text(summary.mean, decimals)} ({number_text(summary.median, decimals)})"


def confidence_text(summary: Summary, decimals: int) -> str:
    """`0.79 to 0.84`."""
    if math.isnan(summary.low):
        return NOTHING
    return f"{number_text(summary.low, decimals)} to {number_text(summary.high, decimals)}"


def used_text(summary: Summary | None) -> str:
    """`23 of 24`."""
    return NOTHING if summary is None else f"{summary.n_used} of {summary.n_total}"


def share_text(value: float, decimals: int = 1) -> str:
    """A share as per cent."""
    return NOTHING if math.isnan(value) else f"{number_text(100 * value, decimals)} %"


def p_text(p: float) -> str:
    """A p-value to three decimals, or that it is smaller."""
    if math.isnan(p):
        return NOTHING
    return f"< {_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"
