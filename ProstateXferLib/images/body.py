# SPDX-License-Identifier: Apache-2.0
"""The body in a CT."""

import SimpleITK as sitk

BODY_HU = -300
"""Between fat (about -100 HU) and air: what is denser belongs to the body or the couch."""


def body_mask(ct: sitk.Image) -> sitk.Image:
    """The largest piece above -300 HU with its gas filled slice by slice; uint8 on the CT's grid, couch left out."""
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(ct > BODY_HU), sortByObjectSize=True)
    # Slices of a turned image have origins of their own, and only slices of one origin can be joined again.
    pieces.SetOrigin((0.0, 0.0, 0.0))
    pieces.SetDirection((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    filled = [sitk.BinaryFillhole(pieces[:, :, k] == 1) for k in range(ct.GetSize()[2])]
    mask = sitk.JoinSeries(filled)
    mask.CopyInformation(ct)
    return mask
