# SPDX-License-Identifier: Apache-2.0
"""Whether the files of a data set are what its layout says, before anything is trained on them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence
from ProstateXferLib.training.datasets.nifti_values import count_not_finite

ERROR, WARNING = "error", "warning"
GLAND_CM3 = (5.0, 400.0)
"""Plausible whole glands: below the smallest adult gland, above the largest benign enlargement seen in trials."""
LESION_MARGIN_MM = 3.0
LESION_OUTSIDE_SHARE = 0.1
"""A lesion may cross the gland's drawn edge by a little; more than this share of it beyond the margin is told."""
EMPTY_SHARE = 0.5
"""A structure of which more than this lies where the image is as dark as its darkest part is not on its organ."""
# How far above the darkest value, as a share of the range up to the 99.5th percentile, the image still counts as empty.
_DARK_SHARE = 0.02
_LESIONS = ("DIL", "Bone lesion", "Pancreatic tumour")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one case.

    Attributes:
        case_id: whose.
        severity: "error" (the case cannot be trained on as it is) or "warning" (look at it).
        what: what is wrong, a sentence.
        advice: what to do, a sentence.
    """

    case_id: str
    severity: str
    what: str
    advice: str


def check_cases(cases: Sequence[Case], progress: Progress) -> list[Problem]:
    """All problems of the cases, in their order; every voxel is read once.

    Looked for: files that are missing or cannot be read; images that are constant or not finite; masks on another grid,
    empty (unless it is a lesion and the case is not said to be positive), or lying where the image is empty; lesions
    outside the gland by more than a margin; glands of implausible volume; the same image under two patients.

    Raises:
        CancelledError: `progress` says so.
    """
    problems: list[Problem] = []
    owners: dict[str, Case] = {}
    for number, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update("check", number / len(cases), case.case_id)
        problems += _check_case(case, owners)
    progress.update("check", 1.0)
    return problems


def _check_case(case: Case, owners: dict[str, Case]) -> list[Problem]:
    found: list[Problem] = []

    def tell(severity: str, what: str, advice: str) -> None:
        found.append(Problem(case.case_id, severity, what, advice))

    images = {name: image for name in case.images if (image := _checked_image(case, name, tell)) is not None}
    for name, image in images.items():
        _check_twins(case, name, image, owners=owners, tell=tell)
    first = next(iter(case.images), None)
    if first in images:
        masks = {name: mask for name in case.masks if (mask := _checked_mask(case, name, images[first], tell))}
        _check_lesion(masks, tell)
        if "Prostate" in masks:
            _check_gland(masks["Prostate"], tell)
    return found


def _checked_image(case: Case, name: str, tell: Callable) -> sitk.Image | None:
    path = case.images[name]
    if not path.exists():
        tell(ERROR, f"The {name} image '{path}' is missing.", "Complete the data set.")
        return None
    try:
        image = read_sequence(case, name)
        check_image(image, f"{name} image '{path.name}'")
    except ProstateXferError as error:
        tell(ERROR, str(error), "Repair the file, or leave the case out.")
        return None
    if count := count_not_finite(path):
        what = f"The {name} image '{path.name}' has {count} voxels that are not finite numbers."
        tell(ERROR, what, "Set them to a value that means something: they are read as 0.")
    return image


def _check_twins(case: Case, name: str, image: sitk.Image, *, owners: dict[str, Case], tell: Callable) -> None:
    """Tell of an image that another case has as well, whatever its file is called and its header says."""
    voxels = sitk.GetArrayViewFromImage(image)
    content = hashlib.sha256(f"{voxels.shape}".encode())
    for plane in voxels:  # one slice at a time, and one type for all: a copy may be stored as another
        content.update(np.ascontiguousarray(plane, dtype=np.float32))
    twin = owners.setdefault(content.hexdigest(), case)
    if twin is case:
        return
    if twin.patient_id != case.patient_id:
        tell(
            ERROR,
            f"The {name} image is the same as one of '{twin.case_id}', another patient.",
            "Find out whose it is: one patient must not train and score.",
        )
    else:
        tell(WARNING, f"The {name} image is the same as one of '{twin.case_id}'.", "Leave one of them out.")


def _checked_mask(case: Case, name: str, image: sitk.Image, tell: Callable) -> sitk.Image | None:
    """The mask, where there is something in it."""
    masks = case.masks[name]
    for path in (mask.path for mask in masks):
        if not path.exists():
            tell(ERROR, f"The labels '{path}' ({name}) are missing.", "Complete the data set.")
            return None
    try:
        mask = read_mask(masks, Grid.of(image))
    except ProstateXferError as error:
        tell(ERROR, str(error), "Correct the labels, or leave the case out.")
        return None
    inside = sitk.GetArrayViewFromImage(mask) > 0
    if not inside.any():
        if masks and (name not in _LESIONS or case.attributes.get("positive", 0)):
            tell(ERROR, f"The mask of {name} is empty.", "Draw it, or leave the case out; check the label values.")
        return None
    voxels = sitk.GetArrayViewFromImage(image)
    darkest, brightest = float(voxels.min()), float(np.percentile(voxels, 99.5))
    dark = voxels[inside] <= darkest + _DARK_SHARE * (brightest - darkest)
    if dark.mean() > EMPTY_SHARE:
        tell(ERROR, f"{dark.mean():.0%} of {name} lies where the image is empty.", "Check that labels and image match.")
    return mask


def _check_gland(gland: sitk.Image, tell: Callable) -> None:
    low, high = GLAND_CM3
    volume_cm3 = int(sitk.GetArrayViewFromImage(gland).sum(dtype=np.int64)) * Grid.of(gland).voxel_volume_mm3 / 1000
    if not low <= volume_cm3 <= high:
        tell(
            WARNING,
            f"The prostate has {volume_cm3:.3g} cm³; {low:g} to {high:g} are plausible.",
            "Check the labels and the voxel spacing.",
        )


def _check_lesion(masks: dict[str, sitk.Image], tell: Callable) -> None:
    if "Prostate" not in masks or "DIL" not in masks:
        return
    # Distances are needed within the margin only, but Maurer's are exact and fast on anisotropic voxels.
    distance = sitk.SignedMaurerDistanceMap(masks["Prostate"], squaredDistance=False, useImageSpacing=True)
    beyond_mm = sitk.GetArrayViewFromImage(distance)[sitk.GetArrayViewFromImage(masks["DIL"]) > 0]
    outside = float((beyond_mm > LESION_MARGIN_MM).mean())
    if outside > LESION_OUTSIDE_SHARE:
        tell(
            WARNING,
            f"{outside:.0%} of DIL lies more than {LESION_MARGIN_MM:g} mm outside the prostate.",
            "Check that both are drawn on this image.",
        )


def bad_cases(problems: Sequence[Problem]) -> list[str]:
    """Ids of the cases with at least one error, sorted."""
    return sorted({problem.case_id for problem in problems if problem.severity == ERROR})
