# SPDX-License-Identifier: Apache-2.0
"""Masks on the grid of their image, and layouts on real images."""

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_trees import GRID, gland_labels, lesion_labels, write_tree
from dataset_trees.lookup import found, mask
from dataset_trees.volumes import write
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.recipe.schema import Source

GLAND, LESION = gland_labels() > 0, lesion_labels() > 0


def test_a_grid_that_differs_is_refused_unless_resampling_is_asked_for(tmp_path):
    folder = write_tree("csv", tmp_path / "set")
    coarse = Grid((12, 10, 8), (4.0, 5.0, 3.0), GRID.index_to_lps([0.5, 0.5, 0]))
    image = coarse.image(gland_labels()[:, ::2, ::2])
    write(gland_labels(), folder / "labels" / "a.nrrd").unlink()
    sitk.WriteImage(image, str(folder / "labels" / "a.nrrd"))
    with pytest.raises(ProstateXferError, match=r"another grid.*resample: true"):
        mask(found(folder, "csv")["first"], "Prostate")
    brought = mask(found(folder, "csv", resample=True)["first"], "Prostate")
    assert 2 * (brought & GLAND).sum() / (brought.sum() + GLAND.sum()) > 0.85


def test_the_order_in_which_voxels_are_stored_is_no_other_grid(tmp_path):
    folder = write_tree("csv", tmp_path / "set")
    labels = GRID.image(gland_labels() + lesion_labels(2))
    for turned in (labels[::-1, :, ::-1], sitk.PermuteAxes(labels, [2, 0, 1])):
        sitk.WriteImage(turned, str(folder / "labels" / "a.nrrd"))
        assert not Grid.of(turned).same_as(GRID, 0.01)
        assert np.array_equal(mask(found(folder, "csv")["first"], "DIL"), LESION)
        assert np.array_equal(mask(found(folder, "csv")["first"], "Prostate"), GLAND)
    shifted = sitk.Image(labels)
    shifted.SetOrigin(tuple(GRID.index_to_lps([1, 0, 0])))
    sitk.WriteImage(shifted, str(folder / "labels" / "a.nrrd"))
    with pytest.raises(ProstateXferError, match="another grid"):
        mask(found(folder, "csv")["first"], "DIL")


@pytest.mark.parametrize(
    ("layout", "path", "count", "structures"),
    [
        ("cases", "promise12/train", 42, {"Prostate"}),
        ("cases", "real/prostate_t2w", 5, {"Prostate", "DIL", "Peripheral zone", "Transition zone"}),
        ("images-only", "promise12/unlabelled", 29, set()),
        ("images-only", "real/ct_mr", 4, set()),
    ],
)
def test_real_images_are_found(real_data, layout, path, count, structures):
    cases = find_cases(Source(layout, path), real_data)
    assert len(cases) == count
    assert {name for case in cases for name in case.masks} == structures


def test_real_zones_lie_in_the_real_gland_the_peripheral_one_behind(real_data):
    cases = {case.case_id: case for case in find_cases(Source("cases", "real/prostate_t2w"), real_data)}
    case = cases["prostatex_0001"]
    gland, back, middle = (mask(case, name) for name in ("Prostate", "Peripheral zone", "Transition zone"))
    zones = back | middle
    assert 2 * (zones & gland).sum() / (zones.sum() + gland.sum()) > 0.9
    assert np.argwhere(back)[:, 1].mean() > np.argwhere(middle)[:, 1].mean()
