# SPDX-License-Identifier: Apache-2.0
"""The digital pelvis: what its label maps measure is its analytic truth, on whatever grid it is rendered."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import default_ct_grid, default_grid, make_phantom, simulate_cbct
from ProstateXferLib.images.phantom.blocks import Block, Points, slabs
from ProstateXferLib.images.phantom.ellipsoid import Ellipsoid, rotation
from ProstateXferLib.images.phantom.shapes import BentTube, Capsule, SuperellipsePrism, Union
from ProstateXferLib.images.phantom.texture import WaveField
from ProstateXferLib.images.structures import (
    BLADDER,
    BODY,
    BONE,
    DIL,
    FEMORAL_HEAD_LEFT,
    FEMORAL_HEAD_RIGHT,
    PERIPHERAL_ZONE,
    PROSTATE,
    RECTUM,
    SEMINAL_VESICLE,
    TRANSITION_ZONE,
)

IDENTITY = np.eye(3)
OBLIQUE = np.asarray(rotation(x_deg=23, y_deg=-14, z_deg=31))
DIRECTIONS = {
    "axial": IDENTITY,
    "oblique": OBLIQUE,
    "left-handed": OBLIQUE @ np.diag([1, 1, -1]),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], dtype=float),
}


def centered_grid(size_xyz, spacing_xyz, direction=IDENTITY, center_lps=(0, 0, 0)) -> Grid:
    middle = (np.asarray(size_xyz) - 1) / 2 * np.asarray(spacing_xyz)
    return Grid(size_xyz, spacing_xyz, tuple(np.asarray(center_lps) - direction @ middle), tuple(direction.ravel()))


def gland_grid(phantom, spacing_xyz, direction=IDENTITY) -> Grid:
    """A box around the gland in any direction."""
    reach = 2.1 * max(phantom.gland.whole.radii_mm)
    size_xyz = tuple(math.ceil(reach / s) for s in spacing_xyz)
    return centered_grid(size_xyz, spacing_xyz, direction, phantom.gland.whole.center_lps)


def arrays(study):
    names = ("t2w", "ct", "cbct", "labels", "anatomy", "lesions")
    return {name: sitk.GetArrayFromImage(getattr(study, name)) for name in names if getattr(study, name) is not None}


def voxel_volume_and_centroid(mask_zyx, grid):
    index_xyz = np.argwhere(mask_zyx)[:, ::-1]
    return len(index_xyz) * grid.voxel_volume_mm3 / 1000, grid.index_to_lps(index_xyz).mean(axis=0)


def masks_by_truth_name(study):
    """Boolean arrays for every name of the truth that lies in the gland."""
    found = arrays(study)
    masks = {
        "Prostate": np.isin(found["labels"], (PROSTATE.value, DIL.value)),
        "DIL": found["labels"] == DIL.value,
        "Transition zone": found["anatomy"] == TRANSITION_ZONE.value,
        "Peripheral zone": found["anatomy"] == PERIPHERAL_ZONE.value,
    }
    return masks | {f"L{n}": found["lesions"] == n for n in range(1, int(found["lesions"].max()) + 1)}


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3)


@pytest.fixture(scope="module")
def study(phantom):
    return phantom.render(centered_grid((264, 176, 28), (1.5, 1.5, 4.0), center_lps=(0, 8, 12)))


@pytest.mark.parametrize("spacing_xyz", [(0.7, 0.7, 0.7), (0.5, 0.9, 1.2)], ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_voxels_measure_the_analytic_volume_and_centroid(phantom, direction, spacing_xyz):
    grid = gland_grid(phantom, spacing_xyz, direction)
    masks = masks_by_truth_name(phantom.render(grid, modalities=()))
    assert set(masks) == {"Prostate", "DIL", "Transition zone", "Peripheral zone", "L1", "L2"}
    for name, mask in masks.items():
        truth = phantom.truth[name]
        volume_cm3, centroid_lps = voxel_volume_and_centroid(mask, grid)
        # Each boundary voxel is wrong by less than half of itself, with either sign: errors add up like a random walk.
        boundary_voxels = 6 * mask.sum() ** (2 / 3)
        tolerance_cm3 = 2 * math.sqrt(boundary_voxels) * grid.voxel_volume_mm3 / 1000
        assert volume_cm3 == pytest.approx(truth.volume_cm3, abs=tolerance_cm3), name
        assert tolerance_cm3 < 0.04 * truth.volume_cm3
        np.testing.assert_allclose(centroid_lps, truth.centroid_lps, atol=0.15, err_msg=name)


def test_bladder_and_femoral_heads_measure_their_truth_on_a_large_field():
    phantom = make_phantom(1)
    grid = centered_grid((170, 90, 90), (1.5, 1.5, 1.5), center_lps=(0, -10, 42))
    anatomy = arrays(phantom.render(grid, modalities=()))["anatomy"]
    for structure in (BLADDER, FEMORAL_HEAD_LEFT, FEMORAL_HEAD_RIGHT):
        volume_cm3, centroid_lps = voxel_volume_and_centroid(anatomy == structure.value, grid)
        assert volume_cm3 == pytest.approx(phantom.truth[structure.name].volume_cm3, rel=0.01), structure.name
        np.testing.assert_allclose(centroid_lps, phantom.truth[structure.name].centroid_lps, atol=0.1)


def test_the_left_femoral_head_lies_on_the_left_of_the_patient(phantom):
    assert phantom.truth["Left femoral head"].centroid_lps[0] > 60
    assert phantom.truth["Right femoral head"].centroid_lps[0] < -60


@pytest.mark.parametrize("seed", range(12))
def test_lesions_have_exactly_the_volume_asked_for_and_lie_in_the_gland(seed):
    phantom = make_phantom(seed, lesion_volumes_cm3=(0.3, 1.7, 0.8))
    assert [phantom.truth[f"L{n}"].volume_cm3 for n in (1, 2, 3)] == pytest.approx([1.7, 0.8, 0.3], abs=1e-9)
    for lesion in phantom.gland.lesions:
        assert phantom.gland.whole.contains(lesion.surface_points(4000)).all()


@pytest.mark.parametrize("seed", range(12))
def test_anatomy_is_within_realistic_ranges(seed):
    phantom = make_phantom(seed)
    assert 20 <= phantom.truth["Prostate"].volume_cm3 <= 90
    assert phantom.gland.whole.contains(phantom.gland.transition_zone.surface_points(4000)).all()
    assert 340 <= 2 * phantom.around.body.radii_xy_mm[0] <= 400
    assert 220 <= 2 * phantom.around.body.radii_xy_mm[1] <= 260
    total = phantom.truth["Peripheral zone"].volume_cm3 + phantom.truth["Transition zone"].volume_cm3
    assert total == pytest.approx(phantom.truth["Prostate"].volume_cm3)


@pytest.mark.parametrize("seed", range(4))
def test_lesions_are_separate_components_on_the_default_grid(seed):
    labels = make_phantom(seed, lesion_volumes_cm3=(1.5, 0.8, 0.5)).render(modalities=()).labels
    components = sitk.ConnectedComponent(labels == DIL.value, True)
    assert sitk.GetArrayViewFromImage(components).max() == 3


def test_most_lesions_lie_mostly_in_the_peripheral_zone():
    shares = []
    for seed in range(20):
        gland = make_phantom(seed, lesion_volumes_cm3=(1.0,)).gland
        shares.append(1 - gland.transition_zone.contains(gland.lesions[0].grown(-3).surface_points(200)).mean())
    assert np.median(shares) > 0.6


def test_other_lesions_leave_the_rest_of_the_patient_as_it_is():
    with_lesions, without = make_phantom(8), make_phantom(8, lesion_volumes_cm3=())
    assert without.gland.lesions == ()
    assert set(without.truth) == set(with_lesions.truth) - {"DIL", "L1", "L2"}
    assert without.gland.transition_zone == with_lesions.gland.transition_zone
    assert without.around == with_lesions.around


def test_the_same_seed_gives_identical_arrays():
    grid = centered_grid((60, 50, 4), (2.0, 2.0, 5.0))
    first, second = (arrays(make_phantom(5).render(grid)) for _ in range(2))
    assert make_phantom(5) == make_phantom(5)
    assert set(first) == {"t2w", "ct", "cbct", "labels", "anatomy", "lesions"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_another_seed_gives_another_patient():
    grid = centered_grid((60, 50, 4), (2.0, 2.0, 5.0))
    first, second = (arrays(make_phantom(seed).render(grid)) for seed in (5, 6))
    for name in first:
        assert (first[name] != second[name]).any(), name


def test_the_noise_seed_changes_the_noise_and_not_the_anatomy(phantom):
    grid = centered_grid((60, 50, 4), (2.0, 2.0, 5.0))
    first, second = (arrays(phantom.render(grid, seed=seed)) for seed in (1, 2))
    np.testing.assert_array_equal(first["anatomy"], second["anatomy"])
    difference = first["ct"].astype(float) - second["ct"]
    assert 5 < difference.std() < 25


def test_a_contrast_seed_changes_the_t2w_protocol_and_nothing_else(phantom):
    grid = centered_grid((90, 80, 3), (2.0, 2.0, 5.0))
    nominal, odd = (arrays(phantom.render(grid, contrast_seed=c)) for c in (None, 4))
    np.testing.assert_array_equal(nominal["ct"], odd["ct"])
    np.testing.assert_array_equal(nominal["labels"], odd["labels"])
    assert np.abs(nominal["t2w"].astype(float) - odd["t2w"]).mean() > 20


def test_a_flipped_grid_gives_the_flipped_rendering(phantom):
    grid = centered_grid((61, 50, 7), (1.3, 1.7, 4.0), OBLIQUE)
    corner = grid.index_to_lps((60, 0, 6))
    turned = Grid(grid.size_xyz, grid.spacing_xyz, tuple(corner), tuple((OBLIQUE @ np.diag([-1, 1, -1])).ravel()))
    first, second = (arrays(phantom.render(g)) for g in (grid, turned))
    for name in ("labels", "anatomy", "lesions"):
        np.testing.assert_array_equal(first[name], second[name][::-1, :, ::-1])
    # Noise belongs to the voxels; what is left beyond it is the same patient.
    assert np.abs(first["ct"].astype(float) - second["ct"][::-1, :, ::-1]).mean() < 15


def test_the_images_carry_the_geometry_they_were_asked_for(phantom):
    grid = centered_grid((20, 18, 5), (3.0, 2.0, 4.0), OBLIQUE @ np.diag([1, 1, -1]), (4, 5, 6))
    study = phantom.render(grid.image(np.zeros(grid.shape_zyx, np.uint8)))
    for name in ("t2w", "ct", "cbct", "labels", "anatomy", "lesions"):
        assert Grid.of(getattr(study, name)).same_as(grid), name
    assert [getattr(study, n).GetPixelID() for n in ("t2w", "ct", "cbct")] == [sitk.sitkInt16] * 3
    assert [getattr(study, n).GetPixelID() for n in ("labels", "anatomy")] == [sitk.sitkUInt8] * 2


def test_a_single_slice_is_enough(phantom):
    grid = centered_grid((128, 96, 1), (1.5, 1.5, 3.0))
    found = arrays(phantom.render(grid))
    assert all(array.shape == (1, 96, 128) for array in found.values())
    assert (found["labels"] == PROSTATE.value).any()
    assert found["ct"].std() > 50 and found["cbct"].std() > 50


def test_only_the_modalities_asked_for_are_rendered(phantom):
    study = phantom.render(centered_grid((16, 16, 2), (4.0, 4.0, 4.0)), modalities=("cbct",))
    assert study.t2w is None and study.ct is None and study.cbct is not None
    with pytest.raises(ProstateXferError, match="Modality 'pet' is unknown; use some of t2w, ct, cbct"):
        phantom.render(modalities=("pet",))


def test_a_large_grid_is_cut_into_slabs_that_cover_it_once():
    grid = Grid((100, 80, 37), (1, 1, 1))
    cut = slabs(grid, 100 * 80 * 10)
    assert [(b.start_zyx[0], b.stop_zyx[0]) for b in cut] == [(0, 10), (10, 20), (20, 30), (30, 37)]


def test_slabs_do_not_show_in_the_anatomy(phantom, monkeypatch):
    grid = centered_grid((40, 36, 9), (3.0, 3.0, 4.0), OBLIQUE)
    whole = arrays(phantom.render(grid))
    monkeypatch.setattr("ProstateXferLib.images.phantom.render.slabs", lambda g: slabs(g, 40 * 36 * 2))
    cut = arrays(phantom.render(grid))
    np.testing.assert_array_equal(whole["anatomy"], cut["anatomy"])
    assert np.abs(whole["ct"].astype(float) - cut["ct"]).max() <= 1


def test_every_structure_is_in_the_anatomy_map(study):
    expected = {BLADDER, BODY, BONE, FEMORAL_HEAD_LEFT, FEMORAL_HEAD_RIGHT, PERIPHERAL_ZONE, RECTUM, SEMINAL_VESICLE}
    values = {s.value for s in expected | {TRANSITION_ZONE}} | {0}
    assert set(np.unique(arrays(study)["anatomy"])) == values


def eroded(mask_zyx, voxels=2):
    image = sitk.GetImageFromArray(mask_zyx.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryErode(image, (voxels, voxels, 1))) > 0


def test_the_ct_shows_each_tissue_near_its_nominal_hu(study):
    found = arrays(study)
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
    found = arrays(study)
    t2w, anatomy, lesions = found["t2w"].astype(float), found["anatomy"], found["lesions"]
    urine = np.median(t2w[eroded(anatomy == BLADDER.value, 3)])
    peripheral = np.median(t2w[eroded((anatomy == PERIPHERAL_ZONE.value) & (lesions == 0), 1)])
    transition = np.median(t2w[eroded((anatomy == TRANSITION_ZONE.value) & (lesions == 0), 1)])
    lesion = np.median(t2w[eroded(lesions > 0, 1)])
    assert urine > peripheral > 1.4 * transition > 1.4 * lesion > 0
    assert np.median(t2w[anatomy == 0]) < 60
    assert t2w.min() >= 0 and np.percentile(t2w, 99.5) < 1700


def test_the_cbct_is_the_same_patient_seen_worse(study):
    found = arrays(study)
    inside = found["anatomy"] > 0
    ct, cbct = found["ct"][inside].astype(float), found["cbct"][inside].astype(float)
    assert np.corrcoef(ct, cbct)[0, 1] > 0.85
    assert np.abs(ct - cbct).mean() > 20
    assert np.median(found["cbct"][eroded(~inside)]) < -980
    fat, muscle = (ct > -140) & (ct < -70), (ct > 35) & (ct < 75)
    assert cbct[muscle].mean() - cbct[fat].mean() < 0.95 * (ct[muscle].mean() - ct[fat].mean())
    assert cbct[muscle].std() > 2 * ct[muscle].std()


def water_cylinder(grid, radius_mm):
    x, y = np.moveaxis(grid.index_to_lps(np.indices(grid.shape_zyx)[::-1].transpose(1, 2, 3, 0)), -1, 0)[:2]
    return grid.image(np.where(np.hypot(x, y) < radius_mm, 0, -1000).astype(np.int16))


def test_cupping_makes_the_middle_of_water_darker_than_its_rim():
    grid = centered_grid((120, 120, 6), (2.0, 2.0, 4.0))
    cbct = sitk.GetArrayFromImage(simulate_cbct(water_cylinder(grid, 100.0), seed=2)).astype(float)
    x, y = np.meshgrid(*(np.arange(120) * 2.0 - 119.0,) * 2)
    radius = np.hypot(x, y)
    assert cbct[:, (radius > 75) & (radius < 90)].mean() - cbct[:, radius < 25].mean() > 20


def test_the_cbct_field_of_view_is_a_cylinder_along_the_patient():
    grid = centered_grid((60, 50, 40), (4.0, 5.0, 6.0), DIRECTIONS["sagittal"])
    cbct = sitk.GetArrayFromImage(simulate_cbct(water_cylinder(grid, 100.0), fov_diameter_mm=140.0))
    lps = grid.index_to_lps(np.indices(grid.shape_zyx)[::-1].transpose(1, 2, 3, 0))
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


@pytest.mark.parametrize(
    ("volumes_cm3", "message"),
    [
        ((500.0,), r"A lesion of 500 cm3 does not fit into the prostate of \d+\.\d cm3 that seed 3 draws; ask for"),
        ((2.0,) * 20, r"A lesion of 2 cm3 does not fit .* beside \d+ larger lesions; ask for smaller or fewer lesions"),
        ((0.0,), "A lesion volume of 0 cm3 is impossible; give volumes above zero"),
        ((float("nan"),), "A lesion volume of nan cm3 is impossible"),
    ],
)
def test_impossible_lesions_are_refused_with_a_sentence(volumes_cm3, message):
    with pytest.raises(ProstateXferError, match=message):
        make_phantom(3, lesion_volumes_cm3=volumes_cm3)


def test_a_negative_seed_is_refused_with_a_sentence():
    with pytest.raises(ProstateXferError, match="The seed -1 is negative; use a whole number from 0 upwards"):
        make_phantom(-1)


def test_default_grids_are_those_of_a_prostate_t2w_and_a_planning_ct():
    assert default_grid().size_xyz == (256, 256, 24) and default_grid().spacing_xyz == (0.75, 0.75, 3.0)
    body = make_phantom(0).around.body
    low, high = (default_ct_grid().index_to_lps(corner) for corner in ((0, 0, 0), (351, 255, 39)))
    for corner, sign in ((low, -1), (high, 1)):
        edge = np.asarray(body.center_xy_lps) + sign * np.asarray(body.radii_xy_mm)
        assert (sign * (corner[:2] - edge) > 5).all()


def test_tissue_texture_is_the_same_at_a_point_whatever_the_grid():
    field = WaveField.random(np.random.default_rng(1), (4.0, 20.0))
    coarse = centered_grid((9, 9, 9), (2.0, 2.0, 2.0), OBLIQUE)
    fine = centered_grid((17, 17, 17), (1.0, 1.0, 1.0), OBLIQUE)
    values = field.values(Block.whole(fine))
    np.testing.assert_allclose(values[::2, ::2, ::2], field.values(Block.whole(coarse)), atol=1e-3)
    assert field.values(Block.whole(centered_grid((60,) * 3, (3.0,) * 3))).std() == pytest.approx(1, abs=0.1)


SHAPES = {
    "ellipsoid": Ellipsoid((1, 2, 3), (8, 5, 11), rotation(10, 20, 30)),
    "capsule": Capsule((-6, 2, 3), (7, -4, 8), (3.0, 5.0)),
    "prism": SuperellipsePrism((1.0, -2.0), (9.0, 6.0), 2.5),
    "tube": BentTube(0.5, 1.0, 2.0, 0.02, 0.01, (6.0, 5.0)),
    "union": Union((Ellipsoid((4, 0, 0), (6, 5, 4)), Capsule((-7, 0, 0), (2, 3, 4), (3.0, 3.0)))),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_is_the_same_on_a_grid_and_at_loose_points_and_stays_in_its_box(shape):
    grid = centered_grid((31, 29, 27), (1.1, 1.2, 1.3), OBLIQUE)
    points = grid.index_to_lps(np.indices(grid.shape_zyx)[::-1].transpose(1, 2, 3, 0))
    on_grid = np.broadcast_to(shape.distance_mm(Block.whole(grid)), grid.shape_zyx)
    inside = shape.distance_mm(Points(points)) <= 0
    np.testing.assert_array_equal(on_grid <= 0, inside)
    low, high = shape.bounds_lps
    assert inside.any()
    assert ((points[inside] >= low) & (points[inside] <= high)).all()


def test_the_distance_to_an_ellipsoid_is_in_millimetres_near_its_surface():
    shape = SHAPES["ellipsoid"]
    normals = (shape.surface_points() - np.asarray(shape.center_lps)) @ np.asarray(shape.axes).T
    normals = (normals / np.asarray(shape.radii_mm) ** 2) @ np.asarray(shape.axes)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for step_mm in (-0.5, 0.0, 0.5):
        distance = shape.distance_mm(Points(shape.surface_points() + step_mm * normals))
        np.testing.assert_allclose(distance, step_mm, atol=0.06)
