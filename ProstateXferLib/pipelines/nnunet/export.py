# SPDX-License-Identifier: Apache-2.0
"""From nnU-Net's logits to probabilities on the image's own grid (specification 4.4)."""

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.nnunet_plan import NnunetPlan
from ProstateXferLib.pipelines.nnunet.preparation import NnunetStudy
from ProstateXferLib.pipelines.nnunet.resampling import resampled, separate_axis


def probabilities_on_grid(logits: Tensor, study: NnunetStudy, plan: NnunetPlan, *, regions: bool) -> np.ndarray:
    """Probabilities (K, z, y, x), float32, in the array order of the first image.

    Args:
        logits: (K, z, y, x) of the prepared study; resampled in their own dtype, as nnU-Net does.
        study, plan: the way back.
        regions: overlapping regions, each a channel of its own (sigmoid); else classes, the background first (softmax).
            Outside the crop the background has 1 and everything else 0.
    """
    axis = separate_axis(study.target_mm, study.spacing_mm, plan.force_separate_z)
    wide = torch.from_numpy(resampled(logits.numpy(), study.crop.shape, order=plan.logits_order, axis=axis)).float()
    probabilities = (torch.sigmoid(wide) if regions else torch.softmax(wide, dim=0)).numpy()
    del wide  # volumes of all classes are what a prediction needs most memory for: never more of them than needed
    whole = study.crop.paste(probabilities)
    if not regions:
        whole[0] = 1
        whole[(0, *study.crop.box)] = probabilities[0]
    backward = np.argsort(plan.transpose_forward)
    restored = whole.transpose(0, *(int(axis) + 1 for axis in backward))
    return np.stack([_own_order(volume, study) for volume in restored]) if plan.to_ras else restored


def _own_order(volume: np.ndarray, study: NnunetStudy) -> np.ndarray:
    oriented = sitk.DICOMOrient(study.grid.image(np.zeros(study.grid.shape_zyx, dtype=np.uint8)), "RAS")
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume))
    image.CopyInformation(oriented)
    own = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(study.grid.direction)
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, own))
