# SPDX-License-Identifier: Apache-2.0
"""The two images of a case that a CT is learned from, on one grid, and the body they show."""

from dataclasses import dataclass

import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import default_ct_grid, make_phantom, simulate_cbct
from ProstateXferLib.training.cache.phantom_case import MODALITIES
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence

BODY = "Body"
CT = "CT"


@dataclass(frozen=True)
class PairImages:
    """Source, CT in HU, and the body (uint8, one inside), all on one grid."""

    source: sitk.Image
    ct: sitk.Image
    body: sitk.Image


def needs_simulation(case: Case, sequence: str) -> bool:
    """Whether the source has to be made from the case's CT: it has none of its own and is no phantom."""
    return PHANTOM_SEED not in case.attributes and sequence not in case.images


def pair_images(case: Case, sequence: str, *, noise_seed: int | None = None) -> PairImages:
    """Read a case, draw a phantom, or simulate the CBCT of a case that has a CT alone.

    Args:
        case: a case with the sequence and "CT"; or a phantom; or, for "CBCT" with a `noise_seed`, with "CT" alone. The
            mask "Body" is used where there is one, else the body is found in the CT.
        sequence: name of the source among the case's images.
        noise_seed: draw of noise and artefacts of a simulated CBCT.

    Raises:
        ProstateXferError: an image is missing or cannot be used, or the two are not on one grid.
    """
    if PHANTOM_SEED in case.attributes:
        return _phantom(case, sequence)
    ct = _read(case, CT)
    if not needs_simulation(case, sequence):
        source = _read(case, sequence)
    elif noise_seed is not None and sequence == "CBCT":
        source = simulate_cbct(ct, seed=noise_seed)
    else:
        raise ProstateXferError(
            f"Case '{case.case_id}' has no {sequence} (it has {', '.join(case.images) or 'no image'}): leave it out, "
            "or set simulated_cbct where CBCT is to be made from CT."
        )
    if not Grid.of(source).same_as(Grid.of(ct)):
        raise ProstateXferError(
            f"The {sequence} and the CT of case '{case.case_id}' lie on different grids: register and resample one to "
            "the other first."
        )
    drawn = case.masks.get(BODY)
    return PairImages(source, ct, read_mask(drawn, Grid.of(ct)) if drawn else body_mask(ct))


def _phantom(case: Case, sequence: str) -> PairImages:
    if sequence not in MODALITIES:
        raise ProstateXferError(f"Phantoms have no {sequence}: use some of {', '.join(MODALITIES)}.")
    modality = MODALITIES[sequence]
    study = make_phantom(int(case.attributes[PHANTOM_SEED])).render(default_ct_grid(), modalities=(modality, "ct"))
    return PairImages(getattr(study, modality), study.ct, body_mask(study.ct))


def _read(case: Case, sequence: str) -> sitk.Image:
    image = read_sequence(case, sequence)
    check_image(image, f"{sequence} of case '{case.case_id}'")
    return image
