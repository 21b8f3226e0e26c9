# SPDX-License-Identifier: Apache-2.0
"""How a metric is spread over the cases: violin, box and every case as a point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ProstateXferLib.reports.evaluation_canvas import METHOD_COLORS, dress, new_plot, png_bytes
from ProstateXferLib.reports.panels import INK

_COLUMNS = {2: 3, 4: 2, math.inf: 1}
"""Panels beside each other, by the most groups that a panel has: the counts below the ticks need their room."""
_PANEL_INCHES = 3.3
_FEWEST_FOR_VIOLIN = 5
_MOST_POINTS = 400


@dataclass(frozen=True)
class Panel:
    """One metric: `values` by group (the ticks along x) and method, case by case; NaNs are counted and left out.

    `bounds` are the least and the greatest value that there can be: the axis does not go beyond them.
    """

    title: str
    y_label: str
    values: Mapping[str, Mapping[str, Sequence[float]]]
    bounds: tuple[float | None, float | None] = (None, None)
    zero_line: bool = False


def distributions(panels: Sequence[Panel]) -> bytes:
    """A figure with one panel a metric; below each tick stands how many of how many cases are in it."""
    ticks = max(len(panel.values) for panel in panels)
    columns = min(next(count for most, count in _COLUMNS.items() if ticks <= most), len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_plot(rows * _PANEL_INCHES + 0.3, columns, rows)
    for spare in axes.ravel()[len(panels) :]:
        spare.set_axis_off()
    methods = list(dict.fromkeys(m for p in panels for by_method in p.values.values() for m in by_method))
    for ax, panel in zip(axes.ravel(), panels, strict=False):
        _draw(ax, panel, methods)
    if len(methods) > 1:
        from matplotlib.patches import Patch

        patches = [Patch(color=_color(methods, name), label=name) for name in methods]
        figure.legend(
            handles=patches, loc="outside upper center", ncols=len(methods), frameon=False, fontsize=10, labelcolor=INK
        )
    return png_bytes(figure)


def _draw(axes: Any, panel: Panel, methods: Sequence[str]) -> None:
    dress(axes, panel.title, "", panel.y_label)
    ticks = []
    for place, (group, by_method) in enumerate(panel.values.items()):
        counts = []
        for k, method in enumerate(methods):
            values = np.asarray(by_method.get(method, ()), dtype=float)
            used = values[np.isfinite(values)]
            counts.append(f"{used.size} of {values.size}")
            width = 0.8 / len(methods)
            _one(axes, used, place + (k - (len(methods) - 1) / 2) * width, width * 0.85, _color(methods, method))
        same = len(set(counts)) == 1
        told = [f"n = {counts[0]}"] if same else [f"{m}: {count}" for m, count in zip(methods, counts, strict=True)]
        ticks.append("\n".join([group, *told]))
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlim(-0.6, len(ticks) - 0.4)
    low, high = axes.get_ylim()
    least, greatest = panel.bounds
    margin = 0.02 * (high - low)
    axes.set_ylim(
        low if least is None else max(low, least - margin), high if greatest is None else min(high, greatest + margin)
    )
    if panel.zero_line:
        axes.axhline(0, color=INK, linewidth=0.9)


def _one(axes: Any, values: np.ndarray, place: float, width: float, color: str) -> None:
    """The violin behind, the points, and the box (quartiles, median, whiskers to 1.5 IQR) on top."""
    if not values.size:
        return
    if values.size >= _FEWEST_FOR_VIOLIN and np.ptp(values) > 0:
        # Cut at the data: a violin that reaches beyond it shows Dice above 1.
        shape = axes.violinplot([values], [place], widths=width, showextrema=False)
        for body in shape["bodies"]:
            body.set(facecolor=color, alpha=0.22, edgecolor="none")
    shown = values if values.size <= _MOST_POINTS else np.sort(values)[:: math.ceil(values.size / _MOST_POINTS)]
    spread = np.random.default_rng(0).uniform(-0.22, 0.22, shown.size) * width
    axes.plot(place + spread, shown, "o", markersize=3, color=color, alpha=0.6, markeredgewidth=0, zorder=5)
    box = axes.boxplot([values], positions=[place], widths=width * 0.32, showfliers=False, patch_artist=True, zorder=4)
    for part in ("whiskers", "caps", "boxes"):
        for line in box[part]:
            line.set(color=color, linewidth=1.3)
    for patch in box["boxes"]:
        patch.set(facecolor=(1, 1, 1, 0.6))
    for line in box["medians"]:
        line.set(color=INK, linewidth=1.8)


def _color(methods: Sequence[str], method: str) -> str:
    return METHOD_COLORS[list(methods).index(method) % len(METHOD_COLORS)]
