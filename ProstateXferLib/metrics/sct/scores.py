# SPDX-License-Identifier: Apache-2.0
"""All scores of a synthetic CT at once."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.masks import Mask
from ProstateXferLib.metrics.sct.errors import mae, me
from ProstateXferLib.metrics.sct.hu_volumes import SYNTHRAD2023_RANGE, HuRange, Where, inside_of
from ProstateXferLib.metrics.sct.ms_ssim import ms_ssim
from ProstateXferLib.metrics.sct.psnr import psnr
from ProstateXferLib.metrics.sct.ssim import ssim


@dataclass(frozen=True, kw_only=True)
class SctScores:
    """Errors in HU, without clipping, PSNR in dB, and similarities of at most 1, over `n_voxels` voxels.

    NaN where a score does not exist (see each function) or was not asked for; `hu_range` is that of PSNR and the
    similarities.
    """

    mae_hu: float
    me_hu: float
    psnr_db: float
    ssim: float
    ms_ssim: float
    n_voxels: int
    hu_range: HuRange


def sct_scores(
    reference: Mask,
    prediction: Mask,
    mask: Where = None,
    hu_range: HuRange = SYNTHRAD2023_RANGE,
    *,
    similarity: bool = True,
) -> SctScores:
    """MAE, ME, PSNR, SSIM and MS-SSIM of three images on one grid or arrays (z, y, x); the last two are the slow ones.

    See each function for what it computes.
    """
    # Once for all: finding a body takes a second.
    found = inside_of(reference, mask)
    inside = _image_like(found, reference)
    arguments = (reference, prediction, inside)
    nan = float("nan")
    return SctScores(
        mae_hu=mae(*arguments),
        me_hu=me(*arguments),
        psnr_db=psnr(*arguments, hu_range),
        ssim=ssim(*arguments, hu_range) if similarity else nan,
        ms_ssim=ms_ssim(*arguments, hu_range) if similarity else nan,
        n_voxels=int(np.count_nonzero(found)),
        hu_range=hu_range,
    )


def _image_like(inside: np.ndarray, reference: Mask) -> Mask:
    """The mask in the kind that the reference has, an image or an array."""
    return Grid.of(reference).image(inside.astype(np.uint8)) if isinstance(reference, sitk.Image) else inside
