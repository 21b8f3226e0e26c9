# SPDX-License-Identifier: Apache-2.0
"""Lesion candidates from a probability map, as PI-CAI extracts them."""

import contextlib
import io

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.masks import Mask, foreground
from ProstateXferLib.metrics.optional_package import optional_package


def detection_map(probability: Mask, threshold: str | float = "dynamic") -> Mask:
    """The detection map of a lesion probability map (z, y, x): float32 confidences, 0 outside every candidate.

    By the package report_guided_annotation, which picai_eval brings along. "dynamic" is PI-CAI's standard: at most
    five candidates around the highest peaks left, each cut at 40 % of its peak and 26-connected, none of ten voxels
    or fewer, none that touches an earlier one. "dynamic-fast" takes one cut for all and a number between 0 and 1 is
    that cut. An image gives an image on its grid, an array an array; probabilities of zero alone give no candidate.
    """
    foreground(probability, "probability map")
    image = probability if isinstance(probability, sitk.Image) else None
    array = sitk.GetArrayFromImage(image) if image is not None else np.asarray(probability)
    if array.ndim != 3:
        raise ProstateXferError(f"Candidates are 3-D; this probability map has shape {array.shape}.")
    if array.min(initial=0) < 0 or array.max(initial=0) > 1:
        raise ProstateXferError("Probabilities lie between 0 and 1; apply softmax or sigmoid to logits first.")
    if isinstance(threshold, str) and threshold not in ("dynamic", "dynamic-fast"):
        raise ProstateXferError(f"The threshold '{threshold}' is unknown; use 'dynamic', 'dynamic-fast' or a number.")
    with contextlib.redirect_stdout(io.StringIO()):
        package = optional_package("report_guided_annotation", "evaluate", "PI-CAI's lesion candidates")
    blobs, _, _ = package.extract_lesion_candidates(array.astype(np.float32), threshold=threshold)
    blobs = blobs.astype(np.float32)
    return Grid.of(image).image(blobs) if image is not None else blobs
