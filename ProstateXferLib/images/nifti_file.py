# SPDX-License-Identifier: Apache-2.0
"""What ITK does not do for NIfTI files: notice that one is cut off, and accept a header that is not quite straight."""

import gzip
import logging
import math
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError

_LOGGER = logging.getLogger(__name__)

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class _Layout:
    """Byte offsets in one version of the header (nifti1.h, nifti2.h)."""

    header_bytes: int
    size_format: str
    size_offset: int
    bits_offset: int
    data_format: str
    data_offset: int
    pixdim_format: str
    pixdim_offset: int
    qform_format: str
    qform_offset: int
    matrix_format: str
    matrix_offset: int


_LAYOUTS = {
    348: _Layout(348, "8h", 40, 72, "f", 108, "8f", 76, "h", 252, "12f", 280),
    540: _Layout(540, "8q", 16, 14, "q", 168, "8d", 104, "i", 344, "12d", 400),
}


def is_complete(path: Path) -> bool:
    """Whether the file holds as many voxels as its header says and, if compressed, is sound."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if compressed else path.open("rb") as file:
            header = file.read(max(_LAYOUTS))
            expected = _expected_bytes(header)
            if expected is None:
                return False
            if not compressed:
                return path.stat().st_size >= expected
            # To the end, since that is where the checksum is compared: ITK does not mind a wrong one either.
            return _count_bytes(file, len(header)) >= expected
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


def read_straightened(path: Path) -> sitk.Image:
    """Read a file whose voxel axes miss right angles by rounding: the nearest straight axes, about the same centre.

    Refuses where a voxel would move by more than half of the smallest voxel spacing: that image is sheared.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    content = bytearray(gzip.decompress(path.read_bytes()) if compressed else path.read_bytes())
    byte_order, layout = _layout_of(content)
    sizes = np.array(struct.unpack_from(byte_order + layout.size_format, content, layout.size_offset)[1:4])
    affine = np.reshape(struct.unpack_from(byte_order + layout.matrix_format, content, layout.matrix_offset), (3, 4))
    straight = _straightened(affine, sizes, path)
    struct.pack_into(byte_order + layout.matrix_format, content, layout.matrix_offset, *straight.ravel())
    pixdim = list(struct.unpack_from(byte_order + layout.pixdim_format, content, layout.pixdim_offset))
    pixdim[1:4] = np.linalg.norm(straight[:, :3], axis=0)
    struct.pack_into(byte_order + layout.pixdim_format, content, layout.pixdim_offset, *pixdim)
    # Without the second description (qform) ITK has to take the one that was just corrected (sform).
    struct.pack_into(byte_order + layout.qform_format, content, layout.qform_offset, 0)
    with tempfile.TemporaryDirectory(prefix="prostatexfer-") as folder:
        copy = Path(folder) / "straight.nii"
        copy.write_bytes(content)
        try:
            return sitk.ReadImage(str(copy))
        except RuntimeError as error:
            raise _sheared(path) from error


def _straightened(affine: np.ndarray, sizes_xyz: np.ndarray, path: Path) -> np.ndarray:
    """(3, 4) affine with orthogonal axes of the same lengths, as near as possible to the given one."""
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    if not (np.isfinite(affine).all() and lengths.min() > 0):
        raise ProstateXferError(f"The header of '{path}' holds no valid voxel axes; export the image again.")
    left, _, right = np.linalg.svd(affine[:, :3] / lengths)
    axes = left @ right * lengths
    half_extent = (sizes_xyz - 1) / 2
    corners = np.stack(np.meshgrid(*[(-h, h) for h in half_extent], indexing="ij"), axis=-1)
    moved_mm = np.linalg.norm(corners @ (axes - affine[:, :3]).T, axis=-1).max()
    if moved_mm > lengths.min() / 2:
        raise _sheared(path)
    _LOGGER.warning("The voxel axes of '%s' were not quite at right angles; moved by up to %.3f mm.", path, moved_mm)
    offset = affine[:, 3] + (affine[:, :3] - axes) @ half_extent
    return np.column_stack([axes, offset])


def _sheared(path: Path) -> ProstateXferError:
    return ProstateXferError(
        f"The voxel axes of '{path}' are not at right angles (a tilted gantry?); resample it to a straight grid."
    )


def _layout_of(header: bytes) -> tuple[str, _Layout]:
    """Byte order and version of the header, told by its own length in the first four bytes."""
    for byte_order in "<>":
        length = struct.unpack_from(byte_order + "i", header)[0]
        if length in _LAYOUTS:
            return byte_order, _LAYOUTS[length]
    raise ValueError("not a NIfTI header")


def _expected_bytes(header: bytes) -> int | None:
    """Length of the uncompressed file according to its header; None where that is no NIfTI header."""
    try:
        byte_order, layout = _layout_of(header)
        dimensions, *sizes = struct.unpack_from(byte_order + layout.size_format, header, layout.size_offset)
        bits = struct.unpack_from(byte_order + "h", header, layout.bits_offset)[0]
        start = struct.unpack_from(byte_order + layout.data_format, header, layout.data_offset)[0]
    except (struct.error, ValueError):
        return None
    if not 1 <= dimensions <= 7 or not math.isfinite(start):
        return None
    return int(start) + math.prod(max(1, n) for n in sizes[:dimensions]) * bits // 8


def _count_bytes(file: gzip.GzipFile, counted: int) -> int:
    """How many bytes an open compressed file has in all, `counted` of them read already; checks its checksum."""
    while chunk := file.read(_CHUNK_BYTES):
        counted += len(chunk)
    return counted
