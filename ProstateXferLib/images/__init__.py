# SPDX-License-Identifier: Apache-2.0
"""Images, grids, label maps and their files."""

from ProstateXferLib.images.checks import check_image, check_same_patient_space
from ProstateXferLib.images.grid import Grid, resample_to_grid, resampled_grid
from ProstateXferLib.images.intensity import IntensityRule, denormalize, normalize
from ProstateXferLib.images.io import IMAGE_SUFFIXES, read_image, write_image
from ProstateXferLib.images.orientation import AxialView, axial_image, axial_view
from ProstateXferLib.images.segmentation_file import read_segmentation, write_segmentation
from ProstateXferLib.images.structures import Code, Structure, generic_structure, structure_by_name
from ProstateXferLib.images.whole_structure import whole_structure_mask

__all__ = [
    "IMAGE_SUFFIXES",
    "AxialView",
    "Code",
    "Grid",
    "IntensityRule",
    "Structure",
    "axial_image",
    "axial_view",
    "check_image",
    "check_same_patient_space",
    "denormalize",
    "generic_structure",
    "normalize",
    "read_image",
    "read_segmentation",
    "resample_to_grid",
    "resampled_grid",
    "structure_by_name",
    "whole_structure_mask",
    "write_image",
    "write_segmentation",
]
