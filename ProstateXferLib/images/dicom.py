# SPDX-License-Identifier: Apache-2.0
"""A folder with a DICOM series as one image, after checking that its slices make a straight, complete stack."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.quiet import quiet_itk

# Objects that GDCM lists as series although they hold no voxels to read.
_NOT_IMAGES = {"RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG", "DOC", "RTRECORD"}
_ORIENTATION_TOLERANCE = 1e-3
# Shares of the distance between slices: rounding of positions in the header, a gap, a sideways step (gantry tilt).
_SPACING_TOLERANCE = 0.05
_GAP = 1.5
_TILT_TOLERANCE = 0.02
_COINCIDENCE_MM = 1e-3


@dataclass(frozen=True)
class DicomSeries:
    """One series of a folder."""

    uid: str
    description: str
    modality: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Slice:
    """What places one file in the patient; `pixel_size` is columns, rows and spacing along x and y, mm."""

    file: Path
    position_lps: np.ndarray
    row_and_column: np.ndarray
    pixel_size: tuple[float, ...]


def is_dicom_file(path: Path) -> bool:
    """Whether the file carries DICOM's mark after its 128-byte preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def list_dicom_series(folder: Path) -> list[DicomSeries]:
    """The image series directly in the folder (not below it), in the order of their UIDs."""
    found = []
    with quiet_itk():
        for uid in sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            header = next((h for f in files if (h := _header(Path(f)))), None)
            if header is None:
                continue
            modality = _tag(header, "0008|0060")
            if modality not in _NOT_IMAGES:
                found.append(DicomSeries(uid, _tag(header, "0008|103e"), modality, tuple(Path(f) for f in files)))
    return found


def read_dicom_folder(folder: Path, *, series_uid: str | None = None) -> sitk.Image:
    """The series of the folder, or the one with that UID, as a 3-D image without the patient's data in its header."""
    series = _choose(list_dicom_series(folder), folder, series_uid)
    with quiet_itk():
        slices = [_read_slice(file) for file in series.files]
    grid_slices, grid = _stack(slices, folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(s.file) for s in grid_slices])
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise ProstateXferError(
            f"The DICOM series in '{folder}' cannot be decoded; export it again, uncompressed if that is a choice."
        ) from error
    if image.GetSize() != grid.size_xyz:
        raise ProstateXferError(f"The DICOM series in '{folder}' has slices of different formats; export it again.")
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    image.SetOrigin(grid.origin_lps)
    image.SetSpacing(grid.spacing_xyz)
    image.SetDirection(grid.direction)
    return image


def _choose(found: list[DicomSeries], folder: Path, series_uid: str | None) -> DicomSeries:
    if not found:
        raise ProstateXferError(
            f"The folder '{folder}' holds no DICOM images; give the folder that holds the slices, or an image file."
        )
    listing = "; ".join(f"'{s.description or s.modality}' with {len(s.files)} files, UID {s.uid}" for s in found)
    if series_uid is not None:
        for series in found:
            if series.uid == series_uid:
                return series
        raise ProstateXferError(f"The folder '{folder}' has no DICOM series with UID {series_uid}; it has {listing}.")
    if len(found) > 1:
        raise ProstateXferError(
            f"The folder '{folder}' holds {len(found)} DICOM series ({listing}); "
            "choose one by its UID (series_uid), or put it in a folder of its own."
        )
    return found[0]


def _read_slice(file: Path) -> _Slice:
    header = _header(file)
    if header is None:
        raise ProstateXferError(f"The DICOM file '{file}' is damaged; export the series again.")
    if int(_tag(header, "0028|0008") or 1) > 1:
        raise ProstateXferError(
            f"'{file.name}' is a multi-frame DICOM file, which is not supported; "
            "export the series with one file per slice, or convert it to NIfTI."
        )
    position = _numbers(header, "0020|0032", 3)
    axes = _numbers(header, "0020|0037", 6)
    spacing = _numbers(header, "0028|0030", 2)  # between rows (y), then between columns (x)
    if position is None or axes is None or spacing is None:
        raise ProstateXferError(
            f"The DICOM file '{file}' does not say where its slice lies in the patient; "
            "give an axial, sagittal or coronal series, not a report or a secondary capture."
        )
    columns, rows = header.GetSize()[:2]
    return _Slice(file, position, axes.reshape(2, 3), (columns, rows, spacing[1], spacing[0]))


def _stack(slices: list[_Slice], folder: Path) -> tuple[list[_Slice], Grid]:
    """The slices in the order of their positions and the grid they make; raises where they make none."""
    first = slices[0]
    if any(np.abs(s.row_and_column - first.row_and_column).max() > _ORIENTATION_TOLERANCE for s in slices):
        raise ProstateXferError(
            f"The DICOM series in '{folder}' has slices of different orientations (a localizer?); "
            "choose another series."
        )
    if any(not np.allclose(s.pixel_size, first.pixel_size, rtol=1e-4) for s in slices):
        raise ProstateXferError(
            f"The DICOM series in '{folder}' has slices of different sizes or pixel spacings; choose another series."
        )
    row, column = first.row_and_column / np.linalg.norm(first.row_and_column, axis=1, keepdims=True)
    normal = np.cross(row, column)
    slices = sorted(slices, key=lambda s: float(s.position_lps @ normal))
    thickness = _slice_distance(slices, normal, folder)
    grid = Grid(
        size_xyz=(int(first.pixel_size[0]), int(first.pixel_size[1]), len(slices)),
        spacing_xyz=(first.pixel_size[2], first.pixel_size[3], thickness),
        origin_lps=tuple(slices[0].position_lps),
        direction=tuple(np.column_stack([row, column, normal]).ravel()),
    )
    return slices, grid


def _slice_distance(slices: list[_Slice], normal: np.ndarray, folder: Path) -> float:
    """Distance of neighbouring slices, mm, after checking that all are alike and none steps sideways."""
    if len(slices) == 1:
        header = _header(slices[0].file)
        return float(_tag(header, "0018|0050") or 1) or 1.0
    positions = np.array([s.position_lps for s in slices])
    heights = positions @ normal
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    if gaps.min() < _COINCIDENCE_MM:
        raise ProstateXferError(
            f"The DICOM series in '{folder}' has several images at the same position (several b-values, echoes or "
            "times?); export one of them as a series of its own."
        )
    widest = int(np.argmax(gaps))
    if gaps[widest] > _GAP * usual:
        missing = max(1, round(gaps[widest] / usual) - 1)
        raise ProstateXferError(
            f"The DICOM series in '{folder}' lacks {missing} slice(s) between '{slices[widest].file.name}' and "
            f"'{slices[widest + 1].file.name}'; export it again completely."
        )
    if np.abs(gaps - usual).max() > _SPACING_TOLERANCE * usual:
        raise ProstateXferError(
            f"The slices of the DICOM series in '{folder}' are {gaps.min():.3g} to {gaps.max():.3g} mm apart; "
            "a series with equal distances is needed."
        )
    sideways = np.linalg.norm(positions[-1] - positions[0] - (heights[-1] - heights[0]) * normal)
    if sideways > _TILT_TOLERANCE * (heights[-1] - heights[0]):
        raise ProstateXferError(
            f"The DICOM series in '{folder}' was taken with a tilted gantry; resample it to a straight grid first."
        )
    return float((heights[-1] - heights[0]) / (len(slices) - 1))


def _header(file: Path) -> sitk.ImageFileReader | None:
    """The file's tags, or None where it is no DICOM image that can be decoded."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _tag(header: sitk.ImageFileReader, key: str) -> str:
    return header.GetMetaData(key).strip(" \0") if header.HasMetaDataKey(key) else ""


def _numbers(header: sitk.ImageFileReader, key: str, count: int) -> np.ndarray | None:
    """The numbers of a tag, or None where there are not so many."""
    try:
        values = np.array([float(part) for part in _tag(header, key).split("\\")])
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None
