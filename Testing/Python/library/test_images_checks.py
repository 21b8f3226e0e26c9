# SPDX-License-Identifier: Apache-2.0
"""Images no pipeline can use are refused with what to do; all others pass."""

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image, check_same_patient_space
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image

GRID = Grid((16, 12, 3), (0.5, 0.5, 3.0), (10, -20, 30))
NUMBERS = np.arange(16 * 12 * 3).reshape(GRID.shape_zyx)


def image(**geometry: object) -> sitk.Image:
    """A sound int16 image, but for the given geometry."""
    fields = {"spacing_xyz": GRID.spacing_xyz, "origin_lps": GRID.origin_lps, "direction": GRID.direction}
    return Grid(GRID.size_xyz, **(fields | geometry)).image(NUMBERS.astype(np.int16))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_every_real_number_type_passes(dtype):
    check_image(GRID.image((NUMBERS % 200).astype(dtype)))


def test_a_mask_passes():
    check_image(GRID.image(NUMBERS > 100), "mask")


def test_a_stack_of_one_sagittal_slice_passes_however_its_axes_are_ordered():
    check_image(Grid((1, 12, 16), (3, 1, 1)).image(np.arange(192.0).reshape(16, 12, 1)))


def with_voxel(value: float) -> sitk.Image:
    voxels = NUMBERS.astype(np.float32)
    voxels[1, 2, 3] = value
    return GRID.image(voxels)


SHEARED = (1.0, 0.1, 0, 0, 1.0, 0, 0, 0, 1.0)
FAULTY = {
    "4 dimensions": lambda: sitk.Image([8, 8, 3, 2], sitk.sitkInt16),
    "2 dimensions": lambda: sitk.Image([8, 8], sitk.sitkInt16),
    "holds 3 values": lambda: sitk.Compose([image()] * 3),
    "holds 1 values": lambda: sitk.Compose([image()]),
    "complex": lambda: sitk.RealAndImaginaryToComplex(*[sitk.Cast(image(), sitk.sitkFloat32)] * 2),
    "1e-06": lambda: image(spacing_xyz=(1e-6, 1e-6, 1)),
    "500 mm": lambda: image(spacing_xyz=(0.5, 0.5, 500)),
    "right angles": lambda: image(direction=SHEARED),
    "1 voxels that are not finite": lambda: with_voxel(float("nan")),
    "not finite": lambda: with_voxel(float("-inf")),
    "every voxel is 0": lambda: GRID.image(np.zeros(GRID.shape_zyx)),
    "7 x 16": lambda: Grid((16, 7, 3), (1, 1, 1)).image(np.arange(336).reshape(3, 7, 16)),
}


@pytest.mark.parametrize("words", FAULTY)
def test_faulty_images_are_refused_in_words(words):
    with pytest.raises(ProstateXferError, match=words) as caught:
        check_image(FAULTY[words](), "ADC map")
    message = str(caught.value)
    assert "ADC map" in message and message.endswith(".") and message.count(". ") == 0


def test_an_origin_that_is_not_a_number_is_refused():
    faulty = image()
    faulty.SetOrigin((float("nan"), 0, 0))
    with pytest.raises(ProstateXferError, match="position"):
        check_image(faulty)


def test_another_sequence_may_cover_less_of_the_same_patient(oblique_direction):
    check_same_patient_space(image(), image(), "ADC map")
    check_same_patient_space(image(origin_lps=(12, -18, 30), direction=oblique_direction), image(), "ADC map")


def test_another_place_in_the_scanner_is_refused():
    with pytest.raises(ProstateXferError, match=r"ADC map covers 0%.*same examination"):
        check_same_patient_space(image(origin_lps=(10, -20, 300)), image(), "ADC map")


def test_the_covered_share_is_that_of_the_volume():
    half = image(origin_lps=(10 + 8 * 0.5, -20, 30))
    check_same_patient_space(half, image(), "ADC map", minimum_overlap=0.45)
    with pytest.raises(ProstateXferError, match="50%"):
        check_same_patient_space(half, image(), "ADC map", minimum_overlap=0.55)


def test_real_sequences_of_one_examination_pass_together(real_data):
    for folder in ("prostatex_0000", "prostatex_0001"):
        case = real_data / "real/prostate_t2w" / folder
        t2w, adc = read_image(case / "t2w.nii.gz"), read_image(case / "adc.nii.gz")
        check_image(t2w)
        check_image(adc, "ADC map")
        check_same_patient_space(adc, t2w, "ADC map")


def test_real_images_of_two_patients_at_different_heights_do_not(real_data):
    ct = read_image(real_data / "real/ct_mr/ts_ct_abdomen_pelvis/ct.nii.gz")
    t2w = read_image(real_data / "real/prostate_t2w/prostatex_0000/t2w.nii.gz")
    check_image(ct, "CT")
    moved = sitk.Image(t2w)
    moved.SetOrigin((0, 0, 5000))
    with pytest.raises(ProstateXferError):
        check_same_patient_space(ct, moved, "CT")
