# SPDX-License-Identifier: Apache-2.0
"""Triangles of an STL file, binary or ASCII."""

from pathlib import Path

import numpy as np

from ProstateXferLib.errors import ProstateXferError

# 80 bytes of text, the number of triangles, then for each: normal, three vertices (float32), two unused bytes.
_HEADER_BYTES = 80
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("vertices", "<f4", (3, 3)), ("unused", "<u2")])


def read_stl(path: Path) -> np.ndarray:
    """The triangles' corners as float64 (triangle, corner, xyz), in the file's unit and frame.

    A file is binary where its length is what the number of triangles in it says: binary files that begin with the
    word "solid" exist.

    Raises:
        ProstateXferError: the file is missing, cut off, or no STL file, or holds no triangle or numbers that are none.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ProstateXferError(f"The surface '{path}' cannot be read ({error.strerror}): check its name.") from error
    start = _HEADER_BYTES + 4
    count = int.from_bytes(content[_HEADER_BYTES:start], "little") if len(content) >= start else -1
    if len(content) == start + count * _TRIANGLE.itemsize:
        triangles = np.frombuffer(content, _TRIANGLE, count, start)["vertices"].astype(np.float64)
    elif content.lstrip()[:5].lower() == b"solid":
        triangles = _ascii_triangles(content, path)
    else:
        raise ProstateXferError(f"'{path}' is cut off or no STL file: get it again.")
    if len(triangles) == 0 or not np.isfinite(triangles).all():
        raise ProstateXferError(
            f"The surface '{path}' has no triangles, or corners that are not numbers: get it again."
        )
    return triangles


def _ascii_triangles(content: bytes, path: Path) -> np.ndarray:
    words = content.split()
    try:
        # float32 like the binary form, so that the same surface gives the same voxels in either.
        corners = [[np.float32(words[i + axis]) for axis in (1, 2, 3)] for i, w in enumerate(words) if w == b"vertex"]
        flat = np.array(corners, dtype=np.float64).reshape(-1, 3, 3)
    except (ValueError, IndexError) as error:
        raise ProstateXferError(f"'{path}' is cut off or no ASCII STL file: get it again.") from error
    if words[-1] == b"endsolid" or b"endsolid" in words[-8:]:
        return flat
    raise ProstateXferError(f"'{path}' is cut off: it lacks its last line ('endsolid'); get it again.")
