# SPDX-License-Identifier: Apache-2.0
"""Which DICOM series lies in a folder, told from the header of one of its files."""

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ProstateXferLib.images.quiet import quiet_itk


@dataclass(frozen=True)
class SeriesHeader:
    """What tells series apart; empty where the header does not say."""

    uid: str
    modality: str
    description: str


def series_header(folder: Path) -> SeriesHeader | None:
    """The header of the folder's first file that is a DICOM image; None where there is none. Reads no voxels."""
    for file in sorted(folder.iterdir()):
        if not file.is_file() or file.name.startswith("."):
            continue
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            with quiet_itk():
                reader.ReadImageInformation()
        except RuntimeError:
            continue
        uid, modality, description = (_tag(reader, key) for key in ("0020|000e", "0008|0060", "0008|103e"))
        return SeriesHeader(uid, modality, description)
    return None


def _tag(reader: sitk.ImageFileReader, key: str) -> str:
    return reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
