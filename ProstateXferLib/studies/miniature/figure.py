# SPDX-License-Identifier: Apache-2.0
"""Dice of every case of every arm, beside the mean of each arm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ProstateXferLib.files import atomic_file
from ProstateXferLib.studies.miniature.case_scores import CaseScore, values_of


def draw_dice(path: Path, scores: Sequence[CaseScore], arms: dict[str, str], data: Sequence[str]) -> Path:
    """One panel a data set, one column an arm; a thin line follows each case from arm to arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(data), 4.2), layout="constrained")
    panels = figure.subplots(1, len(data), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, data, strict=True):
        columns = [values_of(scores, arm, name, "dice") for arm in arms]
        for case in columns[0]:
            panel.plot([column.get(case, np.nan) for column in columns], color="0.85", linewidth=0.7, zorder=1)
        for place, column in enumerate(columns):
            values = np.array(list(column.values()))
            panel.scatter(np.full(len(values), place), values, s=14, color="#3b6ea5", alpha=0.7, zorder=2)
            panel.plot([place - 0.25, place + 0.25], [values.mean()] * 2, color="#b3402a", linewidth=2, zorder=3)
        panel.set_xticks(
            range(len(arms)), [title.replace(", ", ",\n").replace(" encoder", "\nencoder") for title in arms.values()]
        )
        panel.tick_params(axis="x", labelsize=8)
        panel.set_title(f"{name} ({len(columns[0])})", fontsize=10)
        panel.set_ylim(0, 1)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("Dice of the whole gland (red: mean)")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path
