# SPDX-License-Identifier: Apache-2.0
"""A DICOM folder is read only where its slices make one straight, complete stack."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.dicom import list_dicom_series
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image

UID = "1.2.826.0.1.3680043.2.1125.1"
SHAPE_ZYX = (6, 10, 12)
VOXELS = np.random.default_rng(0).integers(0, 900, SHAPE_ZYX).astype(np.int16)


@pytest.fixture
def grid(oblique_direction) -> Grid:
    return Grid(SHAPE_ZYX[::-1], (0.7, 0.8, 3.0), (-40.5, 12.25, -7.75), oblique_direction)


def write_series(
    folder: Path, grid: Grid, *, series: int = 1, change: Callable[[int, dict], None] | None = None
) -> Path:
    """One file per slice, in an order of names that is not that of positions; `change` may alter a slice's tags."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    row, column = grid.direction_matrix[:, 0], grid.direction_matrix[:, 1]
    for number, voxels in enumerate(VOXELS):
        tags = {
            "0008|0060": "MR",
            "0008|103e": f"t2_tse_{series}",
            "0010|0010": "Doe^John",
            "0020|000d": f"{UID}.1",
            "0020|000e": f"{UID}.2.{series}",
            "0008|0018": f"{UID}.3.{series}.{number}",
            "0020|0032": "\\".join(f"{v:.10g}" for v in grid.index_to_lps([0, 0, number])),
            "0020|0037": "\\".join(f"{v:.10g}" for v in (*row, *column)),
            "0020|0013": str(number),
        }
        if change:
            change(number, tags)
        if tags.get("leave out"):
            continue
        image = sitk.GetImageFromArray(voxels[None])
        image.SetSpacing(grid.spacing_xyz)
        for key, text in tags.items():
            image.SetMetaData(key, text)
        writer.SetFileName(str(folder / f"{series}-{number * 5 % 7}.dcm"))
        writer.Execute(image)
    return folder


def moved(tags: dict, offset_lps: np.ndarray) -> None:
    position = np.array([float(v) for v in tags["0020|0032"].split("\\")]) + offset_lps
    tags["0020|0032"] = "\\".join(f"{v:.10g}" for v in position)


def test_a_series_comes_back_in_the_order_of_positions(grid, tmp_path):
    image = read_image(write_series(tmp_path / "Serie für T2", grid))
    assert np.array_equal(sitk.GetArrayViewFromImage(image), VOXELS)
    assert Grid.of(image).same_as(grid, tolerance_mm=1e-6)
    check_image(image)


def test_slices_that_run_to_the_feet_are_turned_over(grid, tmp_path):
    axes = grid.direction_matrix * (1, 1, -1)
    downwards = Grid(grid.size_xyz, grid.spacing_xyz, grid.origin_lps, tuple(axes.ravel()))
    image = read_image(write_series(tmp_path / "series", downwards))
    # Columns, rows and slices of a DICOM stack are right-handed; every voxel is where it was.
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) > 0
    assert np.array_equal(sitk.GetArrayViewFromImage(image), VOXELS[::-1])
    assert np.allclose(Grid.of(image).index_to_lps([0, 0, 5]), grid.origin_lps, atol=1e-6)


def test_the_patients_name_stays_in_the_folder(grid, tmp_path):
    image = read_image(write_series(tmp_path / "series", grid))
    assert not image.GetMetaDataKeys()
    assert b"Doe" not in write_image(image, tmp_path / "image.nrrd").read_bytes()


def test_of_several_series_one_must_be_chosen(grid, tmp_path):
    folder = write_series(tmp_path / "series", grid)
    write_series(folder, grid, series=2)
    assert [(s.description, s.modality, len(s.files)) for s in list_dicom_series(folder)] == [
        ("t2_tse_1", "MR", 6),
        ("t2_tse_2", "MR", 6),
    ]
    with pytest.raises(
        ProstateXferError, match=rf"2 DICOM series.*'t2_tse_1' with 6 files, UID {UID}\.2\.1.*series_uid"
    ):
        read_image(folder)
    assert np.array_equal(sitk.GetArrayViewFromImage(read_image(folder, series_uid=f"{UID}.2.2")), VOXELS)
    with pytest.raises(ProstateXferError, match="no DICOM series with UID 1.2.3"):
        read_image(folder, series_uid="1.2.3")


def leave_out(number: int, tags: dict) -> None:
    if number == 3:
        tags["leave out"] = "yes"


def repeat_a_position(number: int, tags: dict) -> None:
    if number == 3:
        moved(tags, np.array([0, 0, 0]) - 3.0 * normal_of(tags))


def space_unevenly(number: int, tags: dict) -> None:
    if number == 3:
        moved(tags, 0.6 * normal_of(tags))


def tilt(number: int, tags: dict) -> None:
    moved(tags, number * 0.3 * np.array([float(v) for v in tags["0020|0037"].split("\\")[3:]]))


def turn_one(number: int, tags: dict) -> None:
    if number == 3:
        tags["0020|0037"] = "1\\0\\0\\0\\0\\-1"


def normal_of(tags: dict) -> np.ndarray:
    axes = np.reshape([float(v) for v in tags["0020|0037"].split("\\")], (2, 3))
    return np.cross(*axes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (leave_out, r"lacks 1 slice.*between '1-3\.dcm' and '1-6\.dcm'"),
        (repeat_a_position, "same position"),
        (space_unevenly, r"2\.4 to 3\.6 mm apart"),
        (tilt, "tilted gantry"),
        (turn_one, "different orientations"),
    ],
)
def test_stacks_that_are_not_straight_and_complete_are_refused(grid, tmp_path, change, words):
    with pytest.raises(ProstateXferError, match=words):
        read_image(write_series(tmp_path / "series", grid, change=change))


def test_rounded_positions_are_no_uneven_distances(grid, tmp_path):
    def rounded(_number: int, tags: dict) -> None:
        tags["0020|0032"] = "\\".join(f"{float(v):.2f}" for v in tags["0020|0032"].split("\\"))

    assert Grid.of(read_image(write_series(tmp_path / "series", grid, change=rounded))).same_as(grid, tolerance_mm=0.02)


def test_a_damaged_slice_is_named(grid, tmp_path):
    folder = write_series(tmp_path / "series", grid)
    for kept in (0.99, 0.6):
        file = folder / "1-3.dcm"
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
        with pytest.raises(ProstateXferError, match=r"again"):
            read_image(folder)


def test_a_single_file_of_a_series_is_answered_with_the_folder(grid, tmp_path):
    with pytest.raises(ProstateXferError, match="give the folder"):
        read_image(write_series(tmp_path / "series", grid) / "1-0.dcm")


@pytest.mark.parametrize("name", [None, "letter.txt", "image.nii.gz"])
def test_a_folder_without_dicom_says_so(tmp_path, name):
    if name:
        (tmp_path / name).write_text("no image")
    with pytest.raises(ProstateXferError, match="holds no DICOM images"):
        read_image(tmp_path)


def test_a_multi_frame_file_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS.astype(np.uint16)), str(tmp_path / "frames.dcm"))
    with pytest.raises(ProstateXferError, match="multi-frame"):
        read_image(tmp_path)


def test_a_real_series_equals_its_nifti_file(real_data, tmp_path):
    case = real_data / "real/prostate_t2w/prostatex_0000"
    with zipfile.ZipFile(case / "t2w_dicom.zip") as archive:
        archive.extractall(tmp_path)
    (folder,) = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    series, nifti = read_image(folder), read_image(case / "t2w.nii.gz")
    assert Grid.of(series).same_as(Grid.of(nifti), tolerance_mm=1e-3)
    assert np.array_equal(sitk.GetArrayViewFromImage(series), sitk.GetArrayViewFromImage(nifti))
