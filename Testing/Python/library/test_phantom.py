# SPDX-License-Identifier: Apache-2.0
"""The phantom against its analytic truth: volumes, centroids, anatomy, seeds."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.grids import OBLIQUE, centered_grid
from made_images.voxels import arrays_of

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import (
    BLADDER,
    DIL,
    FEMORAL_HEAD_LEFT,
    FEMORAL_HEAD_RIGHT,
    PERIPHERAL_ZONE,
    PROSTATE,
    TRANSITION_ZONE,
)

DIRECTIONS = {
    "axial": np.eye(3),
    "oblique": OBLIQUE,
    "left-handed": OBLIQUE @ np.diag([1, 1, -1]),
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], dtype=float),
}


def gland_grid(phantom, spacing_xyz, direction) -> Grid:
    """A box around the gland in any direction."""
    reach = 2.1 * max(phantom.gland.whole.radii_mm)
    size_xyz = tuple(math.ceil(reach / s) for s in spacing_xyz)
    return centered_grid(size_xyz, spacing_xyz, direction, phantom.gland.whole.center_lps)


def voxel_volume_and_centroid(mask_zyx, grid):
    index_xyz = np.argwhere(mask_zyx)[:, ::-1]
    return len(index_xyz) * grid.voxel_volume_mm3 / 1000, grid.index_to_lps(index_xyz).mean(axis=0)


def masks_by_truth_name(study):
    """Boolean arrays for every name of the truth that lies in the gland."""
    found = arrays_of(study)
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
    anatomy = arrays_of(phantom.render(grid, modalities=()))["anatomy"]
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
