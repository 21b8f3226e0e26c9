# SPDX-License-Identifier: Apache-2.0
"""FROC and precision-recall curves of lesion detection, and histograms of HU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.metrics.froc import FrocCurve
from ProstateXferLib.reports.evaluation_canvas import METHOD_COLORS, SOFT, dress, legend, new_plot, png_bytes
from ProstateXferLib.reports.panels import INK


@dataclass(frozen=True)
class DetectionCurve:
    """What is known of one method: a curve where there were confidences, and the point of its label maps.

    `point` is (false positives per exam, sensitivity, precision).
    """

    name: str
    point: tuple[float, float, float]
    curve: FrocCurve | None


def froc_and_pr(curves: Sequence[DetectionCurve]) -> bytes:
    """FROC on the left, precision over recall on the right."""
    figure, axes = new_plot(4.1, 2)
    left, right = axes[0]
    dress(left, "FROC", "False positives per exam", "Sensitivity (share of lesions)")
    dress(right, "Precision and recall", "Recall (share of lesions)", "Precision")
    for k, one in enumerate(curves):
        color = METHOD_COLORS[k % len(METHOD_COLORS)]
        if one.curve is not None:
            n = f"{one.curve.n_lesions} lesions, {one.curve.n_exams} exams"
            left.plot(
                [0, *one.curve.false_positives_per_exam],
                [0, *np.maximum.accumulate(one.curve.sensitivity)],
                color=color,
                drawstyle="steps-post",
                label=f"{one.name}, confidences\n({n})",
            )
            recall, precision = precision_recall(one.curve)
            right.plot(recall, precision, color=color, drawstyle="steps-pre", label=f"{one.name}, confidences")
        cost, sensitivity, precision = one.point
        options = {"marker": "D", "markersize": 8, "color": color, "linestyle": "none"}
        left.plot([cost], [sensitivity], label=f"{one.name}, label maps", **options)
        right.plot([sensitivity], [precision], label=f"{one.name}, label maps", **options)
    left.set_xlim(left=-0.02)
    for axis in (left, right):
        axis.set_ylim(-0.03, 1.05)
        legend(axis, loc="lower right" if axis is left else "lower left")
    right.set_xlim(-0.03, 1.05)
    return png_bytes(figure)


def precision_recall(curve: FrocCurve) -> tuple[list[float], list[float]]:
    """Recall and precision at the thresholds of the curve at which there is a finding, from the strictest."""
    recall, precision = [], []
    for sensitivity, per_exam in zip(curve.sensitivity, curve.false_positives_per_exam, strict=True):
        found, false = sensitivity * curve.n_lesions, per_exam * curve.n_exams
        if found + false > 0:
            recall.append(sensitivity)
            precision.append(found / (found + false))
    return recall, precision


def hu_histograms(edges_hu: Sequence[float], counts: Mapping[str, Sequence[int]], n_cases: int) -> bytes:
    """Share of the voxels of all cases in each bin of HU, by name; the reference first, on a logarithmic axis."""
    figure, axes = new_plot(3.6)
    ax = axes[0, 0]
    dress(ax, "", f"CT number (HU), voxels inside the body of {n_cases} cases", "Share of voxels (%, logarithmic)")
    colors = (INK, *METHOD_COLORS)
    for k, (name, number) in enumerate(counts.items()):
        total = max(1, int(np.sum(number)))
        share = 100 * np.asarray(number, dtype=float) / total
        options = {"color": colors[k % len(colors)], "label": name}
        if k == 0:
            ax.stairs(share, edges_hu, fill=True, alpha=0.25, **options)
        else:
            ax.stairs(share, edges_hu, linewidth=1.6, **options)
    ax.set_yscale("log")
    ax.set_xlim(edges_hu[0], edges_hu[-1])
    for edge in (-250, 250):
        ax.axvline(edge, color=SOFT, linewidth=0.8, linestyle="--")
    legend(ax)
    return png_bytes(figure)
