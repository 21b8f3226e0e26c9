# SPDX-License-Identifier: Apache-2.0
"""Surface metrics against MONAI, MetricsReloaded (voxels) and DeepMind's surface-distance (surfels)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ProstateXferLib.metrics import surface_metrics
from ProstateXferLib.metrics.surface_areas import surfel_areas_mm2

GOLDEN = Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics"
REFERENCE = json.loads((GOLDEN / "surface.json").read_text(encoding="utf-8"))
CASES = REFERENCE["cases"]
FLOAT32 = {"rel": 1e-5, "abs": 1e-5}
FLOAT64 = {"rel": 1e-9, "abs": 1e-9}
TOLERANCES_MM = (0.5, 1, 2, 3, 5)


@pytest.fixture(scope="module")
def masks():
    with np.load(GOLDEN / "surface_masks.npz") as file:
        return {name: file[name] for name in file.files}


def compared(masks, case, **options):
    """Our metrics of a golden case; the file's arrays are (x, y, z)."""
    reference, prediction = masks[f"{case}__gt"].T, masks[f"{case}__pred"].T
    spacing_zyx = CASES[case]["spacing_xyz_mm"][::-1]
    return surface_metrics(reference, prediction, spacing_zyx, tolerances_mm=TOLERANCES_MM, **options)


def numbers(values):
    """The reference's results as floats; an infinite distance, theirs for an empty mask, is NaN with us."""
    if isinstance(values, dict):
        return {float(key): float(value) for key, value in values.items()}
    return math.nan if math.isinf(float(values)) else float(values)


def check(ours, theirs, nsd, names, precision):
    for ours_name, theirs_name in names.items():
        expected = pytest.approx(numbers(theirs[theirs_name]), nan_ok=True, **precision)
        assert getattr(ours, ours_name) == expected, theirs_name
    assert ours.nsd == pytest.approx(numbers(theirs[nsd]), nan_ok=True, **precision)


@pytest.mark.parametrize("case", CASES)
def test_voxel_surfaces_give_the_numbers_of_monai(masks, case):
    names = {"hd": "hd100", "hd95": "hd95", "assd": "assd"}
    check(compared(masks, case, empty="nan"), CASES[case]["monai"], "nsd_voxelcount", names, FLOAT32)


@pytest.mark.parametrize("case", CASES)
def test_voxel_surfaces_give_the_numbers_of_metricsreloaded(masks, case):
    names = {"hd": "hd100", "hd95": "hd95", "assd": "assd", "masd": "masd"}
    theirs = CASES[case]["metricsreloaded"]
    check(compared(masks, case, empty="best_worst"), theirs, "nsd", names, FLOAT64)


@pytest.mark.parametrize("case", CASES)
def test_surfels_give_the_numbers_of_surface_distance(masks, case):
    ours = compared(masks, case, definition="surfel", empty="nan")
    names = {"hd": "hd100", "hd95": "hd95", "assd": "assd_pooled", "masd": "masd"}
    check(ours, CASES[case]["surface_distance"], "nsd", names, FLOAT64)
    check(ours, CASES[case]["monai"], "nsd_subvoxel", {}, FLOAT32)


def test_contours_of_a_2d_pair():
    theirs = REFERENCE["contour_2d"]
    with np.load(GOLDEN / "surface_masks_2d.npz") as file:
        pair = file["gt"].T, file["pred"].T
    options = {"spacing": theirs["spacing_xy_mm"][::-1], "tolerances_mm": (0.5, 1, 2)}
    voxels, surfels = (surface_metrics(*pair, **options, definition=d) for d in ("voxel", "surfel"))
    check(voxels, theirs["monai"], "nsd_voxelcount", {"hd95": "hd95", "assd": "assd"}, FLOAT32)
    check(surfels, theirs["surface_distance"], "nsd", {"hd95": "hd95"}, FLOAT64)
    assert surfels.masd == pytest.approx(np.mean(theirs["surface_distance"]["asd"]), **FLOAT64)


@pytest.mark.parametrize("spacing_zyx", REFERENCE["surfel_areas_mm2"])
def test_the_area_of_each_of_the_256_cells(spacing_zyx):
    ours = surfel_areas_mm2(tuple(map(float, spacing_zyx.split())))
    np.testing.assert_allclose(ours, REFERENCE["surfel_areas_mm2"][spacing_zyx], rtol=1e-12, atol=0)


# What follows makes one mistake and sees it.


def test_the_two_definitions_and_the_two_orders_of_spacing_are_told_apart(masks):
    case = "ellipsoid_aniso"
    right = compared(masks, case)
    assert compared(masks, case, definition="surfel").hd95 != pytest.approx(right.hd95, rel=0.1)
    turned = surface_metrics(masks[f"{case}__gt"].T, masks[f"{case}__pred"].T, CASES[case]["spacing_xyz_mm"])
    assert turned.assd != pytest.approx(right.assd, rel=0.01)
