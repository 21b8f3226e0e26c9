# SPDX-License-Identifier: Apache-2.0
"""T2w, CT and CBCT of the phantom: nominal values, and what a CBCT makes worse."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.grids import ALONG_AXES, centered_grid, voxel_centres_lps
from made_images.voxels import arrays_of

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom, simulate_cbct
from ProstateXferLib.images.structures import (
    BLADDER,
    BODY,
    BONE,
    FEMORAL_HEAD_LEFT,
    FEMORAL_HEAD_RIGHT,
    PERIPHERAL_ZONE,
    RECTUM,
    SEMINAL_VESICLE,
    TRANSITION_ZONE,
)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3)


@pytest.fixture(scope="module")
def study(phantom):
    return phantom.render(centered_grid((264, 176, 28), (1.5, 1.5, 4.0), center_lps=(0, 8, 12)))


def test_every_structure_is_in_the_anatomy_map(study):
    expected = {BLADDER, BODY, BONE, FEMORAL_HEAD_LEFT, FEMORAL_HEAD_RIGHT, PERIPHERAL_ZONE, RECTUM, SEMINAL_VESICLE}
    values = {s.value for s in expected | {TRANSITION_ZONE}} | {0}
    assert set(np.unique(arrays_of(study)["anatomy"])) == values


def eroded(mask_zyx, voxels=2):
    image = sitk.GetImageFromArray(mask_zyx.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryErode(image, (voxels, voxels, 1))) > 0


def test_the_ct_shows_each_tissue_near_its_nominal_hu(study):
    found = arrays_of(study)
    ct, anatomy = found["ct"], found["anatomy"]
    gland = np.isin(anatomy, (PERIPHERAL_ZONE.value, TRANSITION_ZONE.value))
    assert np.median(ct[eroded(anatomy == BLADDER.value, 3)]) == pytest.approx(8, abs=5)
    assert np.median(ct[eroded(gland)]) == pytest.approx(41, abs=6)
    assert np.median(ct[eroded(anatomy == FEMORAL_HEAD_LEFT.value, 4)]) == pytest.approx(240, abs=30)
    assert np.percentile(ct[anatomy == BONE.value], 95) > 700
    assert np.median(ct[eroded(anatomy == 0)]) == pytest.approx(-1000, abs=3)
    soft = ct[(anatomy == BODY.value) & (ct > -200) & (ct < 150)]
    fat, muscle = soft[soft < -40], soft[soft > 20]
    assert np.median(fat) == pytest.approx(-105, abs=10)
    assert np.median(muscle) == pytest.approx(56, abs=10)
    assert len(fat) > 0.2 * len(soft) and len(muscle) > 0.2 * len(soft)


def test_the_t2w_image_has_bright_urine_and_peripheral_zone_and_dark_lesion_muscle_and_bone(study):
    found = arrays_of(study)
    t2w, anatomy, lesions = found["t2w"].astype(float), found["anatomy"], found["lesions"]
    urine = np.median(t2w[eroded(anatomy == BLADDER.value, 3)])
    peripheral = np.median(t2w[eroded((anatomy == PERIPHERAL_ZONE.value) & (lesions == 0), 1)])
    transition = np.median(t2w[eroded((anatomy == TRANSITION_ZONE.value) & (lesions == 0), 1)])
    lesion = np.median(t2w[eroded(lesions > 0, 1)])
    assert urine > peripheral > 1.4 * transition > 1.4 * lesion > 0
    assert np.median(t2w[anatomy == 0]) < 60
    assert t2w.min() >= 0 and np.percentile(t2w, 99.5) < 1700


def test_the_cbct_is_the_same_patient_seen_worse(study):
    found = arrays_of(study)
    inside = found["anatomy"] > 0
    ct, cbct = found["ct"][inside].astype(float), found["cbct"][inside].astype(float)
    assert np.corrcoef(ct, cbct)[0, 1] > 0.85
    assert np.abs(ct - cbct).mean() > 20
    assert np.median(found["cbct"][eroded(~inside)]) < -980
    fat, muscle = (ct > -140) & (ct < -70), (ct > 35) & (ct < 75)
    assert cbct[muscle].mean() - cbct[fat].mean() < 0.95 * (ct[muscle].mean() - ct[fat].mean())
    assert cbct[muscle].std() > 2 * ct[muscle].std()


def water_cylinder(grid, radius_mm):
    x, y = np.moveaxis(voxel_centres_lps(grid), -1, 0)[:2]
    return grid.image(np.where(np.hypot(x, y) < radius_mm, 0, -1000).astype(np.int16))


def test_cupping_makes_the_middle_of_water_darker_than_its_rim():
    grid = centered_grid((120, 120, 6), (2.0, 2.0, 4.0))
    cbct = sitk.GetArrayFromImage(simulate_cbct(water_cylinder(grid, 100.0), seed=2)).astype(float)
    x, y = np.meshgrid(*(np.arange(120) * 2.0 - 119.0,) * 2)
    radius = np.hypot(x, y)
    assert cbct[:, (radius > 75) & (radius < 90)].mean() - cbct[:, radius < 25].mean() > 20


def test_the_cbct_field_of_view_is_a_cylinder_along_the_patient():
    grid = centered_grid((60, 50, 40), (4.0, 5.0, 6.0), ALONG_AXES["sagittal"])
    cbct = sitk.GetArrayFromImage(simulate_cbct(water_cylinder(grid, 100.0), fov_diameter_mm=140.0))
    lps = voxel_centres_lps(grid)
    radius = np.hypot(lps[..., 0], lps[..., 1])
    assert (cbct[radius > 80] == -1000).all()
    assert (cbct[radius < 60] > -500).all()


@pytest.mark.parametrize("pixel_type", [sitk.sitkInt16, sitk.sitkInt32, sitk.sitkFloat32])
def test_a_cbct_is_made_of_any_ct_and_depends_on_the_seed_alone(phantom, pixel_type):
    grid = centered_grid((90, 60, 3), (4.0, 4.0, 5.0))
    ct = sitk.Cast(phantom.render(grid, modalities="ct").ct, pixel_type)
    first, again, other = (sitk.GetArrayFromImage(simulate_cbct(ct, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.dtype == np.int16 and first.min() >= -1000


def test_a_cbct_of_nothing_but_air_is_air():
    air = centered_grid((20, 20, 2), (5.0, 5.0, 5.0)).image(np.full((2, 20, 20), -1000, np.int16))
    assert sitk.GetArrayFromImage(simulate_cbct(air)).mean() < -980


def test_a_real_ct_becomes_a_cbct(real_data):
    path = real_data / "real" / "ct_mr" / "ts_ct_abdomen_small" / "ct.nii.gz"
    if not path.is_file():
        pytest.skip(f"'{path}' does not exist")
    ct = sitk.ReadImage(str(path))
    cbct = simulate_cbct(ct, seed=1)
    assert Grid.of(cbct).same_as(Grid.of(ct))
    before, after = (sitk.GetArrayFromImage(image).astype(float) for image in (ct, cbct))
    body = before > -300
    assert np.corrcoef(before[body], after[body])[0, 1] > 0.5
