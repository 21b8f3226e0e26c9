# SPDX-License-Identifier: Apache-2.0
"""The front of overlap and boundary as a picture, the chosen ensemble marked."""

import io
from collections.abc import Sequence
from typing import Any

from ProstateXferLib.ensembles.front import Front, FrontPoint, boundary_of
from ProstateXferLib.errors import ProstateXferError

_BLUE, _ORANGE, _GREY, _INK, _GRID = "#0b5c78", "#c2571a", "#a9b4bd", "#1c2733", "#d8dfe5"
_INCHES, _DPI = (7.2, 5.2), 130
_MOST_LABELS = 12
"""More candidates than this are drawn without their names, which would lie on each other."""


def front_figure(front: Front, *, baseline: FrontPoint | None = None, chosen_by: str = "") -> bytes:
    """A PNG: every ensemble that was measured, single candidates by name, the front, the chosen point, the baseline.

    Upwards and to the right is better, whatever the boundary metric: the axis of a distance points downwards.
    `chosen_by` says what took the chosen point; "" where it was the front's own trade.

    Raises:
        ProstateXferError: matplotlib is not installed.
    """
    figure = _new_figure()
    axes = figure.subplots()
    metric = boundary_of(front.boundary_metric)
    _dots(axes, front.evaluated, color=_GREY, s=12, label="mixtures measured", zorder=1)
    singles = [point for point in front.evaluated if len(point.members.names) == 1]
    _dots(axes, singles, color="white", edgecolors=_INK, s=42, marker="D", label="single candidates", zorder=3)
    axes.plot(
        [point.overlap for point in front.efficient],
        [point.boundary for point in front.efficient],
        color=_BLUE,
        marker="o",
        markersize=4,
        linewidth=1.6,
        label="front" if front.exhaustive else "front (of a search)",
        zorder=2,
    )
    if baseline is not None:
        _dots(axes, [baseline], color=_INK, s=60, marker="s", label="equal-weight baseline", zorder=4)
    label = f"chosen ({chosen_by or f'trade {front.trade:g}'})"
    _dots(axes, [front.chosen], color=_ORANGE, edgecolors="white", s=240, marker="*", label=label, zorder=5)
    if not metric.higher_is_better:
        axes.invert_yaxis()
    _dress(axes, f"{metric.title} ({metric.unit}; less is better)" if metric.unit else metric.title)
    if len(singles) <= _MOST_LABELS:
        _name(axes, singles)
    # Below the axes: no corner inside is free whatever the front's shape.
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, labelcolor=_INK)
    picture = io.BytesIO()
    # Without the version of matplotlib the same picture is the same bytes.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _dots(axes: Any, points: Sequence[FrontPoint], **style: Any) -> None:
    axes.scatter([point.overlap for point in points], [point.boundary for point in points], linewidths=1.1, **style)


def _name(axes: Any, points: Sequence[FrontPoint]) -> None:
    """Names below the single candidates, towards the middle; those at one place share a label."""
    from matplotlib.patheffects import withStroke

    names: dict[tuple[float, float], list[str]] = {}
    for point in points:
        names.setdefault((point.overlap, point.boundary), []).append(point.members.names[0])
    low, high = axes.get_xlim()
    for (overlap, boundary), shared in names.items():
        right = overlap > (low + high) / 2
        axes.annotate(
            ", ".join(shared),
            (overlap, boundary),
            xytext=(-6 if right else 6, -15),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9,
            color=_INK,
            zorder=6,
            # Dots and the front's line may run below the text.
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def _dress(axes: Any, boundary: str) -> None:
    axes.set_xlabel("Mean Dice", fontsize=10, color=_INK)
    axes.set_ylabel(f"Mean {boundary}", fontsize=10, color=_INK)
    axes.set_title("Overlap against boundary, on the cases that choose", fontsize=11, color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _new_figure() -> Any:
    """A figure without pyplot, whose global state opens windows in 3D Slicer."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ProstateXferError(
            "The front's figure needs matplotlib, which is not installed: run pip install matplotlib."
        ) from error
    figure = Figure(figsize=_INCHES, dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure
