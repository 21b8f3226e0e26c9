# SPDX-License-Identifier: Apache-2.0
"""Voxels of a NIfTI file that are not finite: ITK's reader silently makes them 0, so they must be looked for in it."""

import gzip
import struct
from pathlib import Path

import numpy as np

# Length of the header (which tells byte order and version) -> format and place of the data type and of the voxels'
# offset (nifti1.h, nifti2.h).
_HEADERS = {348: (70, "f", 108), 540: (12, "q", 168)}
_FLOATS = {16: "f4", 64: "f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def count_not_finite(path: Path) -> int:
    """How many voxels are NaN or infinite; 0 for files that are no NIfTI or hold whole numbers.

    The file must be complete: call this after `read_image` has accepted it.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return 0
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    with gzip.open(path, "rb") if compressed else path.open("rb") as file:
        header = file.read(max(_HEADERS))
        order, length = next((o, n) for o in "<>" for n in _HEADERS if struct.unpack_from(f"{o}i", header)[0] == n)
        type_place, offset_format, offset_place = _HEADERS[length]
        kind = _FLOATS.get(struct.unpack_from(f"{order}h", header, type_place)[0])
        if kind is None:
            return 0
        file.seek(int(struct.unpack_from(f"{order}{offset_format}", header, offset_place)[0]))
        content = file.read()
    voxels = np.frombuffer(content, f"{order}{kind}", len(content) // int(kind[1]))
    return int(np.count_nonzero(~np.isfinite(voxels)))
