# SPDX-License-Identifier: Apache-2.0
"""The table of a detection study as Markdown, the paper's own numbers beside it."""

import math
from collections.abc import Mapping

from ProstateXferLib.studies.detection.lesion_figures import FIGURES, Figure
from ProstateXferLib.studies.detection.published import NOTES, PAPER


def detection_document(arms: Mapping[str, Mapping[str, Figure]]) -> str:
    """A page of one table: a row a figure, a column an arm, with the number of exams (or lesions) in brackets.

    Args:
        arms: name -> what `read_lesion_figures` gave.
    """
    header = ["", *arms, *(f"SAP paper: {name}" for name in PAPER)]
    lines = [_row(header), _row(["---"] * len(header))]
    for key, title in FIGURES.items():
        ours = [_cell(figures[key], key) for figures in arms.values()]
        lines.append(_row([title, *ours, *(_number(values.get(key, math.nan), key) for values in PAPER.values())]))
    notes = "\n".join(f"- {note}" for note in NOTES)
    intro = (
        "In brackets the number of exams, for the Dice of detected lesions that of lesions. The paper's columns are of "
        "its own patients and a comparison with them says nothing about a difference between methods."
    )
    return f"# Lesion detection\n\n{intro}\n\n" + "\n".join(lines) + f"\n\n{notes}\n\nResearch use only.\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(figure: Figure, key: str) -> str:
    return f"{_number(figure.value, key)} ({figure.count})"


def _number(value: float, key: str) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1f}" if key == "false_positives" else f"{value:.3f}"
