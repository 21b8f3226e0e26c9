# SPDX-License-Identifier: Apache-2.0
"""Evening out the coil's brightness over an MR image: N4."""

import math

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError

SHRINK_FACTOR = 4
"""The field is smooth, so it is fitted to an image thinned out by this factor: SimpleITK's own example's number. The
in-domain transfer paper does not say which it used."""
_FEWEST_VOXELS = 8
"""An axis (the slices of a T2w image) is not thinned below this many voxels."""
_LEVELS = (50, 50, 50, 50)
"""Most iterations on each of four levels of B-spline grids, the filter's defaults."""


def corrected_bias_field(image: sitk.Image, *, shrink_factor: int = SHRINK_FACTOR) -> sitk.Image:
    """The image divided by its bias field, float32, same grid; SimpleITK's N4BiasFieldCorrectionImageFilter.

    Fitted within an Otsu mask (air has no bias field) to the image thinned out, applied to the whole image.

    Source: Tustison et al., IEEE TMI 2010; used by the in-domain transfer paper (parameters not given there) and SAP.

    Args:
        image: 3-D image; its values should not be negative.
        shrink_factor: thinning per axis, 1 for none.

    Raises:
        ProstateXferError: the image has no voxels that are brighter than its background.
    """
    image = sitk.Cast(image, sitk.sitkFloat32)
    factors = [max(1, min(shrink_factor, size // _FEWEST_VOXELS)) for size in image.GetSize()]
    mask = sitk.OtsuThreshold(image, 0, 1, 200)
    thin, thin_mask = (sitk.Shrink(item, factors) for item in (image, mask))
    if not sitk.GetArrayViewFromImage(thin_mask).any():
        raise ProstateXferError(
            "The bias field cannot be found: the image is flat; check that the right one was chosen."
        )
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_LEVELS)
    try:
        n4.Execute(thin, thin_mask)
        log_field = n4.GetLogBiasFieldAsImage(image)
    except RuntimeError as error:
        raise ProstateXferError(
            f"The bias field of the image cannot be found ({str(error).strip().splitlines()[-1]}): switch n4 off."
        ) from error
    field = np.exp(sitk.GetArrayViewFromImage(log_field))
    if not math.isfinite(float(field.sum())):
        raise ProstateXferError("The bias field of the image is not finite: switch n4 off.")
    flat = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image) / field)
    flat.CopyInformation(image)
    return flat
