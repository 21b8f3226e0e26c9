# SPDX-License-Identifier: Apache-2.0
"""Image files in and out, with one clear sentence for whatever is wrong with them."""

import logging
import os
import shutil
from pathlib import Path

import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file
from ProstateXferLib.images import nifti_file
from ProstateXferLib.images.dicom import is_dicom_file, read_dicom_folder
from ProstateXferLib.images.quiet import quiet_itk

_LOGGER = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
# A header with its voxels in a second file cannot be put in place in one step.
_WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
_NIFTI_SUFFIXES = (".nii", ".nii.gz")


def image_suffix(path: Path | str) -> str | None:
    """The ending of an image file in lower case (".nii.gz" as a whole), or None for any other file."""
    name = Path(path).name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), None)


def read_image(path: Path | str, *, series_uid: str | None = None) -> sitk.Image:
    """The image of a NIfTI, NRRD or MetaImage file, or of a folder with one DICOM series.

    A 2-D image becomes one slice, a 4-D image with one volume becomes that volume; `check_image` refuses the rest.
    `series_uid` chooses in a DICOM folder with several series.
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom_folder(path, series_uid=series_uid)
    if not path.is_file():
        raise ProstateXferError(f"There is no file or folder '{path}'; check its name.")
    _refuse_foreign_file(path)
    image = _read_file(path)
    if image.GetDimension() == 2:
        return sitk.JoinSeries([image])
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        return image[:, :, :, 0]
    return image


def write_image(image: sitk.Image, path: Path | str) -> Path:
    """Write the image, compressed where the format can, and return the path.

    A half-written file is never found: it is renamed to its place when it is complete.
    """
    path = Path(path)
    suffix = writable_suffix(path)
    with atomic_file(path) as temporary:
        try:
            with quiet_itk():
                sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            _LOGGER.debug("writing %s failed: %s", path, error)
            raise ProstateXferError(f"Cannot write '{path}': {_why_not_written(path)}.") from error
        # ITK's NIfTI writer reports success on a full disk.
        if suffix in _NIFTI_SUFFIXES and not nifti_file.is_complete(temporary):
            raise ProstateXferError(f"Cannot write '{path}': {_why_not_written(path)}.")
    return path


def writable_suffix(path: Path) -> str:
    """The ending of an image file that `write_image` can write, or an error; ask it before long work."""
    suffix = image_suffix(path)
    # ITK knows small letters only: for ".MHA" it writes two files of other names and reports success.
    if suffix not in _WRITABLE_SUFFIXES or not path.name.endswith(suffix):
        raise ProstateXferError(f"Cannot write '{path.name}'; use one of the endings {', '.join(_WRITABLE_SUFFIXES)}.")
    return suffix


def _refuse_foreign_file(path: Path) -> None:
    """Raise for files that cannot be read, are empty or have another format than their ending may have."""
    try:
        if path.stat().st_size == 0:
            raise ProstateXferError(f"The file '{path}' is empty; copy or export it again.")
        dicom = is_dicom_file(path)
    except OSError as error:
        raise ProstateXferError(f"The file '{path}' cannot be opened ({error.strerror}); check its rights.") from error
    if dicom:
        raise ProstateXferError(f"'{path.name}' is a single DICOM file; give the folder of its series.")
    if image_suffix(path) is None:
        raise ProstateXferError(
            f"'{path.name}' is not an image this software reads; "
            f"use a DICOM folder or a file ending in {', '.join(IMAGE_SUFFIXES)}."
        )


def _read_file(path: Path) -> sitk.Image:
    """What ITK makes of a file with a known ending."""
    suffix = image_suffix(path)
    nifti = suffix in _NIFTI_SUFFIXES
    # ITK fills what is missing of a NIfTI file with zeros and says nothing.
    if nifti and not nifti_file.is_complete(path):
        raise ProstateXferError(f"The file '{path}' is damaged or cut off; copy or export it again.")
    try:
        with quiet_itk():
            return sitk.ReadImage(str(path))
    except RuntimeError as error:
        _LOGGER.debug("reading %s failed: %s", path, error)
        if nifti and "orthonormal" in str(error):
            return nifti_file.read_straightened(path)
        if not path.name.endswith(suffix):
            raise ProstateXferError(
                f"'{path.name}' cannot be read under this name; rename it to end in {suffix}."
            ) from error
        raise ProstateXferError(
            f"The file '{path}' is damaged, cut off or not what its ending says; copy or export it again."
        ) from error


def _why_not_written(path: Path) -> str:
    """The likeliest cause, in words; ITK does not tell."""
    folder = path.parent
    if not os.access(folder, os.W_OK):
        return "the folder is not writable, so choose another one"
    if shutil.disk_usage(folder).free < 2**20:
        return "the disk is full, so free some space or choose another one"
    return "the disk may be full or the image of a type this format cannot hold, so free some space or use .nrrd"
