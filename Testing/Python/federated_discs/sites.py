# SPDX-License-Identifier: Apache-2.0
"""Folders of tiny sites: bright discs in noise."""

import numpy as np
import SimpleITK as sitk


def write_sites(root, patients, *, with_ct=False):
    """root/SITE/case_N/{t2w, gland}.nii.gz, and {ct, cbct} where asked for; `patients`: site -> how many.

    The sites differ in brightness: the background of the first lies at 200, of the second at 400, and so on.
    """
    for place, (site, count) in enumerate(patients.items()):
        for patient in range(count):
            folder = root / site / f"case_{patient}"
            folder.mkdir(parents=True)
            for name, array in _images(place, patient, with_ct).items():
                volume = sitk.GetImageFromArray(array)
                volume.SetSpacing((0.6, 0.6, 3.0))
                sitk.WriteImage(volume, str(folder / f"{name}.nii.gz"))
    return root


def _images(place, patient, with_ct):
    """Name -> voxels (2, 64, 64)."""
    random = np.random.default_rng(100 * place + patient)
    _, y, x = np.indices((2, 64, 64))
    disc = np.hypot(y - random.uniform(28, 36), x - random.uniform(28, 36)) < 14
    t2w = 200 * (place + 1) + 150 * disc + random.normal(0, 20, disc.shape)
    images = {"t2w": t2w.astype(np.float32), "gland": disc.astype(np.uint8)}
    if with_ct:
        ct = np.where(disc, 40.0 + 20 * place, -1000.0)
        images |= {"ct": ct.astype(np.float32), "cbct": (ct + random.normal(0, 30, ct.shape)).astype(np.float32)}
    return images
