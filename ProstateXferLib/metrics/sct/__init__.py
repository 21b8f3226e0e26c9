# SPDX-License-Identifier: Apache-2.0
"""How good a synthetic CT is: HU errors, PSNR, SSIM and MS-SSIM as the SynthRAD challenges define them."""

from ProstateXferLib.metrics.sct.errors import mae, me
from ProstateXferLib.metrics.sct.hu_volumes import DGCF_RANGE, SYNTHRAD2023_RANGE, SYNTHRAD2025_RANGE, HuRange
from ProstateXferLib.metrics.sct.ms_ssim import ms_ssim
from ProstateXferLib.metrics.sct.psnr import psnr
from ProstateXferLib.metrics.sct.scores import SctScores, sct_scores
from ProstateXferLib.metrics.sct.slice_ssim import slice_ssim
from ProstateXferLib.metrics.sct.ssim import ssim
from ProstateXferLib.metrics.sct.tissues import TISSUE_CLASSES, TissueClass, scores_by_tissue, tissue_mask

__all__ = [
    "DGCF_RANGE",
    "SYNTHRAD2023_RANGE",
    "SYNTHRAD2025_RANGE",
    "TISSUE_CLASSES",
    "HuRange",
    "SctScores",
    "TissueClass",
    "mae",
    "me",
    "ms_ssim",
    "psnr",
    "scores_by_tissue",
    "sct_scores",
    "slice_ssim",
    "ssim",
    "tissue_mask",
]
