# SPDX-License-Identifier: Apache-2.0
"""How the phantom is rendered: on any grid, in slabs, with the noise and contrast of its seeds."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.grids import OBLIQUE, centered_grid
from made_images.voxels import arrays_of

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import default_ct_grid, default_grid, make_phantom
from ProstateXferLib.images.phantom.blocks import slabs
from ProstateXferLib.images.structures import (
    PROSTATE,
)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3)


def test_the_same_seed_gives_identical_arrays():
    grid = centered_grid((60, 50, 4), (2.0, 2.0, 5.0))
    first, second = (arrays_of(make_phantom(5).render(grid)) for _ in range(2))
    assert make_phantom(5) == make_phantom(5)
    assert set(first) == {"t2w", "ct", "cbct", "labels", "anatomy", "lesions"}
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_another_seed_gives_another_patient():
    grid = centered_grid((60, 50, 4), (2.0, 2.0, 5.0))
    first, second = (arrays_of(make_phantom(seed).render(grid)) for seed in (5, 6))
    for name in first:
        assert (first[name] != second[name]).any(), name


def test_the_noise_seed_changes_the_noise_and_not_the_anatomy(phantom):
    grid = centered_grid((60, 50, 4), (2.0, 2.0, 5.0))
    first, second = (arrays_of(phantom.render(grid, seed=seed)) for seed in (1, 2))
    np.testing.assert_array_equal(first["anatomy"], second["anatomy"])
    difference = first["ct"].astype(float) - second["ct"]
    assert 5 < difference.std() < 25


def test_a_contrast_seed_changes_the_t2w_protocol_and_nothing_else(phantom):
    grid = centered_grid((90, 80, 3), (2.0, 2.0, 5.0))
    nominal, odd = (arrays_of(phantom.render(grid, contrast_seed=c)) for c in (None, 4))
    np.testing.assert_array_equal(nominal["ct"], odd["ct"])
    np.testing.assert_array_equal(nominal["labels"], odd["labels"])
    assert np.abs(nominal["t2w"].astype(float) - odd["t2w"]).mean() > 20


def test_a_flipped_grid_gives_the_flipped_rendering(phantom):
    grid = centered_grid((61, 50, 7), (1.3, 1.7, 4.0), OBLIQUE)
    corner = grid.index_to_lps((60, 0, 6))
    turned = Grid(grid.size_xyz, grid.spacing_xyz, tuple(corner), tuple((OBLIQUE @ np.diag([-1, 1, -1])).ravel()))
    first, second = (arrays_of(phantom.render(g)) for g in (grid, turned))
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
    found = arrays_of(phantom.render(grid))
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
    whole = arrays_of(phantom.render(grid))
    monkeypatch.setattr("ProstateXferLib.images.phantom.render.slabs", lambda g: slabs(g, 40 * 36 * 2))
    cut = arrays_of(phantom.render(grid))
    np.testing.assert_array_equal(whole["anatomy"], cut["anatomy"])
    assert np.abs(whole["ct"].astype(float) - cut["ct"]).max() <= 1


def test_default_grids_are_those_of_a_prostate_t2w_and_a_planning_ct():
    assert default_grid().size_xyz == (256, 256, 24) and default_grid().spacing_xyz == (0.75, 0.75, 3.0)
    body = make_phantom(0).around.body
    low, high = (default_ct_grid().index_to_lps(corner) for corner in ((0, 0, 0), (351, 255, 39)))
    for corner, sign in ((low, -1), (high, 1)):
        edge = np.asarray(body.center_xy_lps) + sign * np.asarray(body.radii_xy_mm)
        assert (sign * (corner[:2] - edge) > 5).all()
