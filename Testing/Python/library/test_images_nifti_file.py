# SPDX-License-Identifier: Apache-2.0
"""NIfTI files that ITK would read as zeros or not at all."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.nifti_file import is_complete

GRID = Grid((200, 200, 20), (0.5, 0.5, 3.0), (-50, -60, 30))


@pytest.fixture
def image() -> sitk.Image:
    return GRID.image(np.random.default_rng(0).integers(0, 900, GRID.shape_zyx).astype(np.int16))


def skew(path: Path, amount: float) -> None:
    """Make the first two voxel axes miss the right angle, in the one description (sform) that is left."""
    content = bytearray(path.read_bytes())
    rows = np.reshape(struct.unpack_from("<12f", content, 280), (3, 4)).copy()
    rows[0, 1] += amount * GRID.spacing_xyz[1]
    rows[0, 3] -= amount * GRID.spacing_xyz[1] * (GRID.size_xyz[1] - 1) / 2  # about the centre
    struct.pack_into("<12f", content, 280, *rows.ravel())
    struct.pack_into("<h", content, 252, 0)
    path.write_bytes(content)


def test_axes_that_miss_right_angles_by_rounding_are_straightened(image, tmp_path, caplog):
    path = write_image(image, tmp_path / "image.nii")
    skew(path, 1e-3)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    read = read_image(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(read), sitk.GetArrayViewFromImage(image))
    axes = np.reshape(read.GetDirection(), (3, 3))
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    # Half of the skew is 0.025 mm at the edge of 100 mm, from which the straight axes may differ.
    assert Grid.of(read).same_as(GRID, tolerance_mm=0.05) and not Grid.of(read).same_as(GRID)
    assert "right angles" in caplog.text


def test_compressed_files_are_straightened_too(image, tmp_path):
    path = write_image(image, tmp_path / "image.nii")
    skew(path, 1e-3)
    packed = tmp_path / "image.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert Grid.of(read_image(packed)).same_as(Grid.of(read_image(path)), 1e-9)


def test_a_sheared_image_is_refused(image, tmp_path):
    path = write_image(image, tmp_path / "image.nii")
    skew(path, 0.1)
    with pytest.raises(ProstateXferError, match="right angles"):
        read_image(path)


def test_a_file_of_several_compressed_members_is_whole(image, tmp_path):
    content = write_image(image, tmp_path / "image.nii").read_bytes()
    packed = tmp_path / "image.nii.gz"
    parts = [gzip.compress(content[start : start + 400_000], 1) for start in range(0, len(content), 400_000)]
    packed.write_bytes(b"".join(parts))
    assert len(parts) > 2 and is_complete(packed)
    packed.write_bytes(b"".join(parts[:-1]))
    assert not is_complete(packed)


def test_a_damaged_byte_is_found(image, tmp_path):
    path = write_image(image, tmp_path / "image.nii.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ProstateXferError, match="damaged"):
        read_image(path)


def test_big_endian_files_are_read(tmp_path):
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 8, 9, 2, 1, 1, 1, 1)
    struct.pack_into(">hh", header, 70, 4, 16)
    struct.pack_into(">8f", header, 76, 1, 1, 1, 2, 1, 1, 1, 1)
    struct.pack_into(">f", header, 108, 352)
    header[344:348] = b"n+1\0"
    voxels = np.arange(144, dtype=">i2")
    path = tmp_path / "image.nii"
    path.write_bytes(bytes(header) + voxels.tobytes())
    assert sitk.GetArrayFromImage(read_image(path)).ravel().tolist() == voxels.tolist()
    path.write_bytes(bytes(header) + voxels[:-1].tobytes())
    with pytest.raises(ProstateXferError, match="cut off"):
        read_image(path)


def test_every_real_file_is_whole(real_data):
    paths = sorted(real_data.glob("real/*/*/*.nii.gz"))
    assert paths and all(is_complete(path) for path in paths)
