# SPDX-License-Identifier: Apache-2.0
"""Cases that are phantoms: rendered from their seed instead of being read."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.phantom import default_ct_grid, default_grid, make_phantom
from ProstateXferLib.images.structures import DIL, PROSTATE, structure_by_name
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED

MODALITIES = {"T2w": "t2w", "CT": "ct", "CBCT": "cbct"}


def render_phantom(
    case: Case, sequences: Sequence[str], structures: Sequence[str]
) -> tuple[list[sitk.Image], dict[str, np.ndarray]]:
    """The sequences' images of a phantom, and a mask (z, y, x) bool of every structure that a phantom has.

    T2w alone lies on the phantom's MR grid, anything with CT or CBCT on its CT grid (images/phantom/render).

    Raises:
        ProstateXferError: a sequence that phantoms do not have.
    """
    unknown = [sequence for sequence in sequences if sequence not in MODALITIES]
    if unknown:
        raise ProstateXferError(f"Phantoms have no {unknown[0]}: use some of {', '.join(MODALITIES)}.")
    seed = int(case.attributes[PHANTOM_SEED])
    phantom = make_phantom(seed, lesion_volumes_cm3=lesion_volumes_cm3(seed))
    grid = default_grid() if set(sequences) == {"T2w"} else default_ct_grid()
    study = phantom.render(grid, modalities=tuple(MODALITIES[sequence] for sequence in sequences))
    labels, anatomy = (sitk.GetArrayFromImage(item) for item in (study.labels, study.anatomy))
    masks = {PROSTATE.name: labels > 0, DIL.name: labels == DIL.value}
    for name in structures:
        if name not in masks:
            masks[name] = anatomy == structure_by_name(name).value
    return [getattr(study, MODALITIES[sequence]) for sequence in sequences], masks


def lesion_volumes_cm3(seed: int) -> tuple[float, float]:
    """Volumes of the two lesions of a training phantom, 0.3 to 3.3 cm3: all of one size would teach that size."""
    return tuple(np.random.default_rng([seed, 1]).uniform(0.3, 3.3, 2).tolist())
