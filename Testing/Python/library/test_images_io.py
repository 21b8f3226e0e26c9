# SPDX-License-Identifier: Apache-2.0
"""Image files come back as they were written, and anything wrong with a file is said in one sentence."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import IMAGE_SUFFIXES, image_suffix, read_image, write_image

WRITABLE = [".nii", ".nii.gz", ".nrrd", ".mha"]


@pytest.fixture
def image(oblique_direction) -> sitk.Image:
    grid = Grid((16, 12, 9), (0.6, 0.7, 3.3), (-31.5, 42.25, -77.125), oblique_direction)
    return grid.image(np.random.default_rng(0).integers(-1000, 3000, grid.shape_zyx).astype(np.int16))


def same(first: sitk.Image, second: sitk.Image) -> bool:
    """Same voxels, pixel type and place in the patient (NIfTI stores single precision)."""
    voxels = np.array_equal(sitk.GetArrayViewFromImage(first), sitk.GetArrayViewFromImage(second))
    return voxels and first.GetPixelID() == second.GetPixelID() and Grid.of(first).same_as(Grid.of(second))


@pytest.mark.parametrize("suffix", WRITABLE)
@pytest.mark.parametrize("left_handed", [False, True])
def test_an_image_comes_back_with_its_voxels_and_place(image, suffix, left_handed, tmp_path):
    if left_handed:
        axes = np.reshape(image.GetDirection(), (3, 3)) * (1, 1, -1)
        image.SetDirection(axes.ravel())
    path = write_image(image, tmp_path / f"image{suffix}")
    assert path == tmp_path / f"image{suffix}" and same(read_image(path), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", WRITABLE)
def test_pixel_types_are_kept(dtype, suffix, tmp_path):
    image = Grid((8, 8, 2), (1, 1, 1)).image(np.arange(128).reshape(2, 8, 8).astype(dtype))
    assert same(read_image(write_image(image, tmp_path / f"image{suffix}")), image)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_names_with_spaces_and_umlauts_work(image, suffix, tmp_path):
    folder = tmp_path / "Fälle für 東京 (neu)"
    folder.mkdir()
    path = folder / f"T2w größer{suffix}"
    assert same(read_image(write_image(image, path)), image)
    assert same(read_image(str(path)), image)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_endings_in_capitals_are_read_or_answered_with_the_name_to_give(image, suffix, tmp_path):
    path = write_image(image, tmp_path / f"image{suffix}")
    path = path.rename(tmp_path / f"image{suffix.upper()}")
    if suffix != ".mha":
        assert same(read_image(path), image)
        return
    with pytest.raises(ProstateXferError, match=r"rename it to end in \.mha"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_headers_with_a_second_file_are_read(image, suffix, tmp_path):
    sitk.WriteImage(image, str(tmp_path / f"image{suffix}"))
    assert same(read_image(tmp_path / f"image{suffix}"), image)


def test_a_single_slice_becomes_a_volume(tmp_path):
    flat = sitk.GetImageFromArray(np.arange(80, dtype=np.int16).reshape(8, 10))
    sitk.WriteImage(flat, str(tmp_path / "flat.mha"))
    assert read_image(tmp_path / "flat.mha").GetSize() == (10, 8, 1)


def test_one_volume_in_four_dimensions_becomes_that_volume_and_several_stay(image, tmp_path):
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / "one.nii.gz"))
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(tmp_path / "two.nii.gz"))
    assert same(read_image(tmp_path / "one.nii.gz"), image)
    assert read_image(tmp_path / "two.nii.gz").GetDimension() == 4


def test_endings_are_recognised_as_a_whole():
    assert image_suffix(Path("a.b/case.NII.gz")) == ".nii.gz" and image_suffix("x.seg.nrrd") == ".nrrd"
    assert image_suffix("x.gz") is None and image_suffix("nii") is None
    assert {image_suffix(f"x{suffix}") for suffix in IMAGE_SUFFIXES} == set(IMAGE_SUFFIXES)


@pytest.mark.parametrize("suffix", WRITABLE)
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_file_cut_off_anywhere_is_refused(image, suffix, kept, tmp_path):
    path = write_image(image, tmp_path / f"image{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ProstateXferError, match=r"cut off.*again\.$"):
        read_image(path)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_empty_files_and_other_content_are_refused(suffix, tmp_path):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(b"")
    with pytest.raises(ProstateXferError, match="empty"):
        read_image(path)
    path.write_bytes(b"This is a letter, not an image.\n" * 50)
    with pytest.raises(ProstateXferError, match="again"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProstateXferError, match=r"There is no file or folder '.*gone\.nii'"):
        read_image(tmp_path / "gone.nii")


def test_another_kind_of_file_is_answered_with_the_kinds_that_are_read(tmp_path):
    (tmp_path / "notes.txt").write_text("prostate")
    with pytest.raises(ProstateXferError, match=r"notes\.txt.*\.nii\.gz.*\.nrrd"):
        read_image(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["image.png", "image.mhd", "image", "image.MHA", "image.Nii.gz"])
def test_an_ending_that_cannot_be_written_is_answered_with_those_that_can(image, name, tmp_path):
    with pytest.raises(ProstateXferError, match=r"\.nii\.gz, \.nrrd"):
        write_image(image, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_writing_replaces_a_file_and_leaves_nothing_else(image, tmp_path):
    path = tmp_path / "image.nrrd"
    path.write_text("old")
    write_image(image, path)
    assert same(read_image(path), image) and list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder_says_so(image, tmp_path):
    with pytest.raises(ProstateXferError, match="folder"):
        write_image(image, tmp_path / "missing" / "image.nrrd")


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits exist on Unix only")
@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_full_disk_is_noticed_in_every_format_and_keeps_the_old_file(suffix, tmp_path):
    # A limit on the size of files stands for the full disk; it holds for the whole process, hence one of its own.
    script = """if True:
        import resource, signal, sys
        import numpy as np
        from ProstateXferLib.errors import ProstateXferError
        from ProstateXferLib.images.grid import Grid
        from ProstateXferLib.images.io import write_image
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        noise = np.random.default_rng(0).integers(0, 30000, (20, 64, 64)).astype(np.int16)
        try:
            write_image(Grid((64, 64, 20), (1, 1, 1)).image(noise), sys.argv[1])
        except ProstateXferError as error:
            print(error)
    """
    root = Path(__file__).resolve().parents[3]
    path = tmp_path / f"image{suffix}"
    path.write_text("old")
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert "Cannot write" in done.stdout and "disk may be full" in done.stdout
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]


def test_warnings_of_itk_stay_off_stderr_and_come_back_after_reading(image, tmp_path, capfd):
    path = write_image(image, tmp_path / "image.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 284, 0.5)  # one of the two descriptions of the axes is now skewed
    path.write_bytes(content)
    sitk.ReadImage(str(path))
    assert "WARNING" in capfd.readouterr().err
    assert same(read_image(path), image)
    assert capfd.readouterr().err == "" and sitk.ProcessObject.GetGlobalWarningDisplay()


def test_real_images_come_back_as_they_were(real_data, tmp_path):
    paths = [*real_data.glob("real/prostate_t2w/*/t2w.nii.gz"), *real_data.glob("real/ct_mr/*/ct.nii.gz")]
    assert len(paths) >= 6
    for number, path in enumerate(paths):
        image = read_image(path)
        assert same(read_image(write_image(image, tmp_path / f"{number}.nrrd")), image), path
