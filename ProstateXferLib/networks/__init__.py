# SPDX-License-Identifier: Apache-2.0
"""Network architectures, one a file, plain torch."""

from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3

__all__ = ["DGCF", "DINOv3", "MRDINOv3"]
