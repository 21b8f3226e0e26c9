# SPDX-License-Identifier: Apache-2.0
"""What all plots of an evaluation share: size, type, colours, and how they become PNG bytes."""

import io
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.reports.panels import INK

METHOD_COLORS = ("#0b5c78", "#c2571a")
"""Blue and orange: told apart by the colour-blind and in grey."""
GRID_COLOR = "#d8dfe5"
SOFT = "#56636f"
WIDTH_INCHES = 10.4
_DPI = 130


def new_plot(height_inches: float, columns: int = 1, rows: int = 1, *, width_inches: float = WIDTH_INCHES) -> Any:
    """(figure, array of axes (rows, columns)), drawn without pyplot, whose global state opens windows in 3D Slicer.

    Raises:
        ProstateXferError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ProstateXferError(
            'The report\'s figures need matplotlib, which is not installed: run "pip install matplotlib", or give '
            "--no-report for the tables alone."
        ) from error
    figure = Figure(figsize=(width_inches, height_inches), dpi=_DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.06)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def dress(axes: Any, title: str, x_label: str, y_label: str) -> None:
    """Quiet axes with a grid along y, labels and a title."""
    axes.set_title(title, fontsize=11, color=INK, pad=6)
    axes.set_xlabel(x_label, fontsize=10, color=INK)
    axes.set_ylabel(y_label, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=SOFT, length=3)
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)


def legend(axes: Any, **options: Any) -> None:
    """A legend without a frame, where there is something to explain."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**{"frameon": False, "fontsize": 9, "labelcolor": INK, **options})


def png_bytes(figure: Any) -> bytes:
    """The figure as PNG, the same bytes for the same picture."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
