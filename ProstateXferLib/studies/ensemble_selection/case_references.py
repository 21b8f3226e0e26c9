# SPDX-License-Identifier: Apache-2.0
"""The reference of a case, read once: the box around its labels, and what is needed to score a prediction against it.

Read as `prostatexfer evaluate` reads it (evaluation/label_pair.py), so that both give the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames, scheme_of
from ProstateXferLib.evaluation.label_pair import LabelImage, LabelPair, label_pair, read_labels
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.studies.ensemble_selection.box import Box
from ProstateXferLib.studies.ensemble_selection.plan import PlannedCase

_SAME_GRID = 0.05
"""Of the smallest voxel side, as `evaluate` takes it."""


@dataclass(frozen=True, eq=False)
class CaseReference:
    """A reference cut to its labels.

    Attributes:
        labels_zyx: (z, y, x) in the values of `scheme_of(declared)`.
        box: where they lie in the image.
        grid: of the case's image.
        declared: names that the reference speaks of, whether there is a voxel of them or not.
    """

    labels_zyx: np.ndarray
    box: Box
    grid: Grid
    declared: frozenset[str]


def read_reference(case: PlannedCase, grid: Grid, names: LabelNames, structure: str) -> CaseReference:
    """The reference of a case whose image has this grid.

    Raises:
        ProstateXferError: no label map, another grid, or one that says nothing of the structure.
    """
    reference = read_labels(case.reference)
    own = Grid.of(reference.image)
    if not own.same_as(grid, _SAME_GRID * min(grid.spacing_xyz)):
        raise ProstateXferError(
            f"The reference of the case '{case.name}' lies on another grid than its image: draw it on that image, or "
            "resample it to the image's grid first."
        )
    nothing = LabelImage(grid.image(np.zeros(grid.shape_zyx, dtype=np.uint8)), {})
    pair = label_pair(nothing, reference, LabelNames(), names)
    if structure not in pair.reference_declared:
        known = ", ".join(sorted(pair.reference_declared)) or "nothing"
        raise ProstateXferError(
            f"The reference of the case '{case.name}' does not speak of '{structure}' but of {known}: say what its "
            f"values mean with --names, as in 1={structure}."
        )
    box = Box(pair.start_zyx, pair.reference_zyx.shape)
    return CaseReference(pair.reference_zyx, box, grid, pair.reference_declared)


def pair_with(reference: CaseReference, predicted_zyx: np.ndarray, box: Box, names: Mapping[int, str]) -> LabelPair:
    """Prediction and reference in one box and with one meaning.

    Args:
        reference: of the case.
        predicted_zyx: labels (z, y, x) that fill the `box` of the image; outside there are none.
        names: what the predicted values mean; all that the prediction speaks of.
    """
    declared = frozenset(names.values())
    scheme = scheme_of(declared | reference.declared)
    values = {structure.name: structure.value for structure in scheme}
    before = {structure.value: structure.name for structure in scheme_of(reference.declared)}
    both = Box.around([box, reference.box])
    predicted = _placed(predicted_zyx, box, both, {old: values[name] for old, name in names.items()})
    drawn = _placed(reference.labels_zyx, reference.box, both, {old: values[name] for old, name in before.items()})
    return LabelPair(predicted, drawn, both.start_zyx, reference.grid, scheme, declared, reference.declared)


def _placed(labels_zyx: np.ndarray, box: Box, outer: Box, values: Mapping[int, int]) -> np.ndarray:
    """Labels in other values, in a larger box."""
    table = np.zeros(max(max(values, default=0), int(labels_zyx.max(initial=0))) + 1, dtype=np.uint16)
    for old, new in values.items():
        table[old] = new
    whole = np.zeros(outer.shape_zyx, dtype=np.uint16)
    if not box.empty:
        whole[box.inside(outer)] = table[labels_zyx]
    return whole
