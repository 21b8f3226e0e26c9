# SPDX-License-Identifier: Apache-2.0
"""Bland-Altman plots of volumes, and a metric over the volume of the reference."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ProstateXferLib.metrics.agreement import BlandAltman
from ProstateXferLib.reports.evaluation_canvas import METHOD_COLORS, SOFT, dress, legend, new_plot, png_bytes
from ProstateXferLib.reports.panels import INK

_COLUMNS = 2
_PANEL_INCHES = 3.7


def bland_altman_plots(panels: Mapping[str, BlandAltman], unit: str = "cm³") -> bytes:
    """One panel for each title: difference against mean, bias and limits of agreement with their 95 % intervals."""
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_plot(rows * _PANEL_INCHES, columns, rows, width_inches=5.2 * columns)
    for spare in axes.ravel()[len(panels) :]:
        spare.set_axis_off()
    for ax, (title, numbers) in zip(axes.ravel(), panels.items(), strict=False):
        title = f"{title}   n = {numbers.n_used} of {numbers.n_total}"
        dress(ax, title, f"Mean of both volumes ({unit})", f"Prediction − reference ({unit})")
        ax.plot(numbers.means, numbers.differences, "o", color=METHOD_COLORS[0], markersize=4.5, alpha=0.65)
        lines = (
            ("+1.96 SD", numbers.upper, numbers.upper_interval),
            ("bias", numbers.bias, numbers.bias_interval),
            ("−1.96 SD", numbers.lower, numbers.lower_interval),
        )
        for name, value, interval in lines:
            _level(ax, name, value, interval, unit)
        ax.axhline(0, color=SOFT, linewidth=0.8, linestyle=":")
    return png_bytes(figure)


def metric_over_volume(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    y_label: str,
    edges_cm3: Sequence[float] = (),
    what: str = "lesions",
) -> bytes:
    """(volumes in cm³, values) by method on a logarithmic axis, with the edges of the strata."""
    figure, axes = new_plot(3.7, width_inches=7.6)
    ax = axes[0, 0]
    dress(ax, "", "Reference volume (cm³, logarithmic)", y_label)
    for k, (method, (volumes, values)) in enumerate(points.items()):
        pairs = np.column_stack([volumes, values]).astype(float)
        used = pairs[np.isfinite(pairs).all(axis=1) & (pairs[:, 0] > 0)]
        label = f"{method}, n = {len(used)} of {len(pairs)} {what}"
        color = METHOD_COLORS[k % len(METHOD_COLORS)]
        ax.plot(used[:, 0], used[:, 1], "os"[k % 2], color=color, markersize=5, alpha=0.7, label=label)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for edge in edges_cm3:
        ax.axvline(edge, color=SOFT, linewidth=0.9, linestyle="--")
    legend(ax, loc="best")
    return png_bytes(figure)


def _level(axes: Any, name: str, value: float, interval: tuple[float, float], unit: str) -> None:
    """A line across with its interval as a band and its value at the right edge."""
    if not np.isfinite(value):
        return
    solid = name == "bias"
    axes.axhline(value, color=INK, linewidth=1.3, linestyle="-" if solid else "--")
    if np.isfinite(interval).all():
        axes.axhspan(*interval, color=METHOD_COLORS[0] if solid else INK, alpha=0.14 if solid else 0.07, linewidth=0)
    axes.annotate(
        f"{name}\n{value:+.2f} {unit}".replace("-", "−"),
        xy=(1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        ha="left",
        fontsize=8.5,
        color=INK,
        annotation_clip=False,
    )
