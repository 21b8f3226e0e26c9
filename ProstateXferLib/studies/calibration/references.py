# SPDX-License-Identifier: Apache-2.0
"""Where a reference shows a structure, in the sense in which the model gives it a probability."""

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames, canonical_name
from ProstateXferLib.evaluation.label_pair import LabelImage, LabelPair, label_pair, on_grid
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.whole_structure import whole_structure_mask


def paired_with(
    segmentation_labels: sitk.Image, reference: LabelImage, card: ModelCard, names: LabelNames
) -> LabelPair:
    """The model's labels and the reference in one numbering.

    Args:
        segmentation_labels: of the model, in the values of its card.
        reference: read from its file.
        card: the model's.
        names: what the reference's values mean where its file does not say.

    Raises:
        ProstateXferError: the reference lies on another grid.
    """
    try:
        image, _ = on_grid(reference.image, Grid.of(segmentation_labels), resample=False, what="image")
    except ProstateXferError as error:
        raise ProstateXferError(
            "The reference does not lie on the image's grid: bring it there first (nearest neighbour)."
        ) from error
    own = {structure.value: canonical_name(structure.name) for structure in card.structures}
    predicted = LabelImage(segmentation_labels, own)
    return label_pair(predicted, LabelImage(image, reference.own_names), LabelNames(own), names)


def reference_mask(pair: LabelPair, card: ModelCard, structure: str) -> np.ndarray | None:
    """bool (z, y, x) on the whole grid; None where the reference does not speak of the structure at all.

    A structure includes its parts (a lesion is prostate), but not those that the model's head sets against it: where
    prostate and lesion are classes of one softmax, the probability of the prostate is that of prostate without lesion.
    """
    name = canonical_name(structure)
    if name not in pair.reference_declared:
        return None
    by_name = {one.name: one for one in pair.structures}
    mask = whole_structure_mask(pair.reference_zyx, by_name[name], pair.structures)
    for rival in _rivals(card, structure):
        if rival in by_name:
            mask &= pair.reference_zyx != by_name[rival].value
    whole = np.zeros(pair.grid.shape_zyx, dtype=bool)
    whole[pair.box] = mask
    return whole


def _rivals(card: ModelCard, structure: str) -> list[str]:
    """The other classes of the softmax that tells the structure."""
    names = {one.value: one.name for one in card.structures}
    for head in card.heads:
        found = [names[value] for value in head.values]
        if structure in found:
            return [] if head.overlapping else [canonical_name(name) for name in found if name != structure]
    raise ProstateXferError(
        f"The model '{card.name}' gives no probability of '{structure}': it finds {', '.join(sorted(names.values()))}."
    )
