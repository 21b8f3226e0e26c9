# SPDX-License-Identifier: Apache-2.0
"""Lesion candidates from a probability map, as PI-CAI extracts them.

The rules are those of the package report_guided_annotation 0.3.4 (Bosma et al., Radiol Artif Intell 2023;5:e230031),
which picai_eval brings along, and the maps are equal to its own to the bit. It looks through the whole image once for
each component, which takes minutes where there are thousands; here an image is looked through once for all of them.
"""

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.masks import Mask, bounding_box, foreground

_MOST_CANDIDATES = 5
_SMALLEST_VOXELS = 11
_SHARE_OF_PEAK = 2.5  # a candidate is cut at its peak divided by this
_LEAST_PEAK = 0.01


def detection_map(probability: Mask, threshold: str | float = "dynamic") -> Mask:
    """The detection map of a lesion probability map (z, y, x): float32 confidences, 0 outside every candidate.

    "dynamic" is PI-CAI's standard: at most five candidates around the highest peaks left, each cut at 40 % of its peak
    and 26-connected, none of ten voxels or fewer, none that touches an earlier one. "dynamic-fast" takes one cut for
    all and a number between 0 and 1 is that cut. An image gives an image on its grid, an array an array; probabilities
    of zero alone give no candidate.

    Raises:
        ProstateXferError: not 3-D, values outside 0 to 1, or an unknown threshold.
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
    array = array.astype(np.float32)
    if threshold == "dynamic":
        found = _dynamic_candidates(array)
    else:
        cut = array.max(initial=0) / _SHARE_OF_PEAK if threshold == "dynamic-fast" else threshold
        found = _candidates_above(array, cut)[0]
    return Grid.of(image).image(found) if image is not None else found


def _dynamic_candidates(probability_zyx: np.ndarray) -> np.ndarray:
    """One candidate after the other, from the highest peak down.

    It ends where the cut of the highest peak left gives no component that is large enough, although a lower one might:
    the package calls that a fault of its version 1, and PI-CAI's figures are made with version 1.
    """
    left, found, taken = probability_zyx.copy(), np.zeros_like(probability_zyx), 0
    while taken < _MOST_CANDIDATES and (peak := left.max(initial=0)) >= _LEAST_PEAK:
        confidences, labels = _candidates_above(left, peak / _SHARE_OF_PEAK)
        best = confidences.max()
        if best == 0:
            break
        first = np.unravel_index(np.argmax(confidences == best), confidences.shape)  # of equal ones in (z, y, x) order
        chosen = labels == labels[first]
        if not _touches(chosen, found):
            found[chosen] = best
            taken += 1
        left[chosen] = 0
    return found


def _candidates_above(probability_zyx: np.ndarray, cut: float) -> tuple[np.ndarray, np.ndarray]:
    """Every component of voxels at or above the cut that is large enough, filled with its peak; and all components."""
    from scipy import ndimage

    labels, count = components_by_volume((probability_zyx >= cut) & (probability_zyx > 0))
    numbers = np.arange(1, count + 1)
    peaks = np.zeros(count + 1, dtype=np.float32)
    if count:
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        peaks[1:] = np.where(sizes >= _SMALLEST_VOXELS, ndimage.maximum(probability_zyx, labels, numbers), 0)
    return peaks[labels], labels


def _touches(mask_zyx: np.ndarray, found_zyx: np.ndarray) -> bool:
    """Whether the two share a voxel or are neighbours by face, edge or corner."""
    from scipy import ndimage

    if not found_zyx.any():
        return False
    box = tuple(slice(max(0, axis.start - 1), axis.stop + 1) for axis in bounding_box(mask_zyx))
    grown = ndimage.binary_dilation(mask_zyx[box], structure=np.ones((3, 3, 3)))
    return bool((grown & (found_zyx[box] > 0)).any())
