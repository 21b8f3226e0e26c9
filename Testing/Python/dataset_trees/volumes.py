# SPDX-License-Identifier: Apache-2.0
"""One tiny patient in voxels, and writers for the forms in which data sets keep them."""

import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image

GRID = Grid((24, 20, 8), (2.0, 2.5, 3.0), (-20.0, -30.0, 5.0))
GLAND = (slice(1, 7), slice(5, 15), slice(6, 18))
GLAND_CM3 = 6 * 10 * 12 * 15e-3
_LESION = (slice(3, 5), slice(10, 13), slice(8, 12))


def image_array(seed: int = 0) -> np.ndarray:
    """int16 (z, y, x): noise, brighter in the gland; another seed is another patient."""
    array = np.random.default_rng(seed).integers(100, 300, GRID.shape_zyx).astype(np.int16)
    array[GLAND] += 300
    return array


def gland_labels(value: int = 1) -> np.ndarray:
    """uint8 (z, y, x): a box of 10.8 cm³."""
    labels = np.zeros(GRID.shape_zyx, dtype=np.uint8)
    labels[GLAND] = value
    return labels


def zone_labels(anterior: int, posterior: int) -> np.ndarray:
    """uint8 (z, y, x): the gland's front and back half."""
    labels = gland_labels(anterior)
    labels[1:7, 10:15, 6:18] = posterior
    return labels


def lesion_labels(value: int = 1) -> np.ndarray:
    """uint8 (z, y, x): a box in the gland."""
    labels = np.zeros(GRID.shape_zyx, dtype=np.uint8)
    labels[_LESION] = value
    return labels


def write(array: np.ndarray, path: Path) -> Path:
    """The array on GRID as a file, with the folders above it; .mhd too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mhd":
        sitk.WriteImage(GRID.image(array), str(path))
        return path
    return write_image(GRID.image(array), path)


def write_dicom(
    array: np.ndarray, folder: Path, uid: str, *, modality: str = "MR", description: str = "t2_tse_tra"
) -> Path:
    """The array on GRID as a DICOM series."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing(GRID.spacing_xyz)
        tags = {
            "0008|0060": modality,
            "0008|103e": description,
            "0020|000d": f"{uid}.1",
            "0020|000e": uid,
            "0008|0018": f"{uid}.2.{number}",
            "0020|0032": "\\".join(f"{v:.10g}" for v in GRID.index_to_lps([0, 0, number])),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number),
        }
        for key, text in tags.items():
            image.SetMetaData(key, text)
        writer.SetFileName(str(folder / f"{number:04d}.dcm"))
        writer.Execute(image)
    return folder


def box_triangles(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(12, 3, 3): the surface of a box between two corners."""
    corner = np.array([[(low, high)[(i >> axis) & 1][axis] for axis in range(3)] for i in range(8)], dtype=np.float64)
    quads = ((0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6))
    triangles = [(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads]
    return corner[np.array(triangles)]


def mask_surface(labels: np.ndarray) -> np.ndarray:
    """(12, 3, 3) LPS mm: the box around a box-shaped mask, half a voxel beyond its outermost voxel centres."""
    occupied = np.argwhere(labels)[:, ::-1]
    return box_triangles(GRID.index_to_lps(occupied.min(axis=0) - 0.5), GRID.index_to_lps(occupied.max(axis=0) + 0.5))


def write_stl(triangles: np.ndarray, path: Path, *, ascii_form: bool = False) -> Path:
    """The triangles (n, corner, xyz) as a binary or an ASCII STL file; normals are left at zero."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ascii_form:
        lines = ["solid test"]
        for triangle in triangles.astype(np.float32):
            lines += ["facet normal 0 0 0", " outer loop"]
            lines += [f"  vertex {' '.join(f'{float(v):.9e}' for v in corner)}" for corner in triangle]
            lines += [" endloop", "endfacet"]
        path.write_text("\n".join([*lines, "endsolid test"]), encoding="ascii")
        return path
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *triangle.ravel(), 0) for triangle in triangles)
    path.write_bytes(b"solid but binary".ljust(80) + struct.pack("<I", len(triangles)) + body)
    return path
