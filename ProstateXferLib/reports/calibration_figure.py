# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram of one structure, before and after its temperature."""

from typing import Any

from ProstateXferLib.checkpoints.calibration import Calibration, Reliability
from ProstateXferLib.reports.evaluation_canvas import (
    GRID_COLOR,
    METHOD_COLORS,
    SOFT,
    dress,
    legend,
    new_plot,
    png_bytes,
)

_WIDTH, _HEIGHT = 9.6, 6.2
_COUNTS = 0.28  # height of the row with the counts, of that of the diagrams


def calibration_figure(calibration: Calibration) -> bytes:
    """A PNG: on the left the model's own probabilities, on the right those at the temperature of the other folds.

    Above, the share of voxels that belong to the structure over the probability given to them, a dot for each bin with
    its interval over patients as a band, and the diagonal on which both are equal. Below, how many voxels a bin holds.

    Raises:
        ProstateXferError: matplotlib is not installed.
    """
    figure, axes = new_plot(_HEIGHT, 2, 2, width_inches=_WIDTH)
    axes[0, 0].get_gridspec().set_height_ratios([1, _COUNTS])
    titles = ("As the model gives them", f"At the temperature (T = {calibration.temperature:.2f})")
    sides = zip(titles, (calibration.before, calibration.after), METHOD_COLORS[::-1], strict=True)
    for column, (title, reliability, color) in enumerate(sides):
        _diagram(
            axes[0, column], reliability, title=f"{calibration.structure}: {title[0].lower()}{title[1:]}", color=color
        )
        _counts(axes[1, column], reliability, color)
    top = max(bar.get_height() for axis in axes[1] for bar in axis.patches)
    for axis in axes[1]:
        axis.set_ylim(0.5, top * 3)  # one scale, so that both sides can be compared
    return png_bytes(figure)


def _diagram(axes: Any, reliability: Reliability, *, title: str, color: str) -> None:
    dress(axes, title, "", "Share that is the structure")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="as it should be")
    known = [one for one in reliability.bins if one.frequency_low is not None]
    axes.fill_between(
        [one.probability for one in known],
        [one.frequency_low for one in known],
        [one.frequency_high for one in known],
        color=color,
        alpha=0.16,
        linewidth=0,
        label="95 % interval over patients",
    )
    axes.plot(
        [one.probability for one in reliability.bins],
        [one.frequency for one in reliability.bins],
        color=color,
        marker="o",
        markersize=4.5,
        linewidth=1.4,
        label=f"calibration error {reliability.calibration_error:.3f}",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(axis="x", color=GRID_COLOR, linewidth=0.8)
    legend(axes, loc="upper left")


def _counts(axes: Any, reliability: Reliability, color: str) -> None:
    dress(axes, "", "Probability", "Voxels")
    axes.bar(
        [one.low for one in reliability.bins],
        [one.voxels for one in reliability.bins],
        width=[one.high - one.low for one in reliability.bins],
        align="edge",
        color=color,
        alpha=0.6,
        edgecolor="white",
        linewidth=0.8,
    )
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
