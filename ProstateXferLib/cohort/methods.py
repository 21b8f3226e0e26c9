# SPDX-License-Identifier: Apache-2.0
"""What a report says about how its results were made: only what the models' own cards and the study say."""

from collections.abc import Mapping, Sequence
from typing import Any

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.cohort.task import Task

_NOT_STATED = ("", "not stated")
# The others run over slices or volumes, as each model's arguments say.
_SLICEWISE = ("mr_dinov3", "smp", "dgcf")
_MEASURES = (
    "Labels lie on the image's own grid. Volumes count voxels; the prostate includes the DIL that touches it. "
    "Centroids are means of voxel centres in patient coordinates (mm)."
)
_CUT = "Prostate and DIL come from two models; what the second found outside the gland of the first was cut off."
_COMPARISON = (
    "The reference CT was interpolated linearly on the synthetic CT's grid and compared inside its body; "
    "{share} of the body in the {title} could be compared."
)


def methods_of(result: StudyResult) -> list[str]:
    """Paragraphs for the page."""
    paragraphs = [_of_model(model) for model in result.models]
    segmenters = [model for model in result.models if not _is_synthesis(model)]
    if segmenters:
        paragraphs.append(f"{_MEASURES} {_CUT}" if len(segmenters) > 1 else _MEASURES)
    for key, scores in result.synthesis.items():
        share = scores.get("compared_fraction")
        if share is not None:
            paragraphs.append(_COMPARISON.format(share=f"{share:.0%}", title=Task(key).title))
    return paragraphs


def models_warnings(result: StudyResult) -> list[str]:
    """What each model was trained on: who reads a number must know it before the number."""
    return [
        f"The model '{model['name']}' was trained on: {model['training_data']}"
        for model in result.models
        if model.get("training_data") not in _NOT_STATED
    ] + [
        f"Nobody has stated what the model '{model['name']}' was trained on."
        for model in result.models
        if model.get("training_data") in _NOT_STATED
    ]


def _of_model(model: Mapping[str, Any]) -> str:
    tasks = " and ".join(Task(task).title for task in model["tasks"])
    title = f" ({model['title']})" if model.get("title") else ""
    slicewise = "slice by slice " if model["architecture"] in _SLICEWISE else ""
    source = _source(model["inputs"])
    range_hu = model.get("hu_range")
    span = f", {range_hu[0]:g} to {range_hu[1]:g} HU" if range_hu else ""
    does = f"made {slicewise}from {source}" if _is_synthesis(model) else f"segmented {slicewise}on {source}"
    citation = model.get("citation")
    cited = f" Citation: {citation.rstrip('.')}." if citation else ""
    return f"{tasks}: {does} by the model '{model['name']}'{title}{span}. {model['intended_use']}{cited}"


def _source(sequences: Sequence[str]) -> str:
    """ "T2w", or "T2w with ADC and high-b (…)"."""
    first, *others = sequences
    if not others:
        return first
    listed = others[0] if len(others) == 1 else f"{', '.join(others[:-1])} and {others[-1]}"
    return f"{first} with {listed} (interpolated linearly on its grid where theirs differed)"


def _is_synthesis(model: Mapping[str, Any]) -> bool:
    return any(Task(task).is_synthesis for task in model["tasks"])
