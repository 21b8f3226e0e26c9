# SPDX-License-Identifier: Apache-2.0
"""What the comparison of a synthetic CT with its reference gave, in a line for the panel."""

import json
from typing import Any

from slicer.i18n import tr as _

from ProstateXferLib.cohort.task import Task

# Key of the study's record -> the parameter that holds the difference.
_DIFFERENCES = {"ct-from-mr": "differenceFromMr", "ct-from-cbct": "differenceFromCbct"}


def errorsOfCts(parameters: Any) -> list[str]:
    """One line for each synthetic CT of the last run that has a reference; errors in HU, inside the body."""
    if not parameters.studyRecord:
        return []
    scores = json.loads(parameters.studyRecord)["synthesis"]
    there = [key for key, parameter in _DIFFERENCES.items() if getattr(parameters, parameter) is not None]
    return [_line(Task(key).title, scores[key]) for key in there if key in scores]


def _line(title: str, scores: dict[str, float | None]) -> str:
    text = _("{title} against the reference CT: mean absolute error {mae} HU, mean error {me} HU ({share} compared)")
    return text.format(
        title=title,
        mae=_number(scores.get("mae_body_hu"), "{:.0f}"),
        me=_number(scores.get("mean_error_body_hu"), "{:+.0f}"),
        share=_number(scores.get("compared_fraction"), "{:.0%}"),
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
