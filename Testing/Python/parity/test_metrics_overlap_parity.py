# SPDX-License-Identifier: Apache-2.0
"""Overlap, volumes and centroids against surface-distance, MONAI, MetricsReloaded, SimpleITK and nnU-Net."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics import (
    centroid_distance_mm,
    centroid_lps,
    compare_volumes,
    dice,
    iou,
    overlap_counts,
    precision,
    recall,
    volume_cm3,
)

GOLDEN = Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics"
CASES = json.loads((GOLDEN / "overlap.json").read_text(encoding="utf-8"))["cases"]
FLOAT32, FLOAT64 = {"rel": 1e-5, "abs": 1e-5}, {"rel": 1e-9, "abs": 1e-9}
ANGLE = 0.35  # rad, of the golden files' turned grid


@pytest.fixture(scope="module")
def masks():
    with np.load(GOLDEN / "surface_masks.npz") as file:
        return {name: file[name].T for name in file.files}  # stored x, y, z


@pytest.fixture(params=CASES)
def case(request, masks):
    return CASES[request.param], masks[f"{request.param}__gt"], masks[f"{request.param}__pred"]


def finite(value):
    """Their number; SimpleITK writes the largest double for 0 / 0."""
    value = float(value)
    return math.nan if math.isinf(value) or abs(value) > 1e300 else value


def test_counts(case):
    expected, reference, prediction = case
    counts, theirs = overlap_counts(reference, prediction), expected["nnunet_counts"]
    assert (counts.both, counts.prediction - counts.both) == (theirs["tp"], theirs["fp"])
    assert counts.reference - counts.both == theirs["fn"]


def test_dice_under_both_rules(case):
    expected, reference, prediction = case
    theirs = expected["dice"]
    assert dice(reference, prediction) == pytest.approx(theirs["metricsreloaded"], **FLOAT64)
    assert dice(reference, prediction) == pytest.approx(theirs["monai_ignore_empty=False"], **FLOAT32)
    without = dice(reference, prediction, empty="nan")
    for name in ("surface_distance", "nnunet", "simpleitk"):
        assert without == pytest.approx(finite(theirs[name]), nan_ok=True, **FLOAT64), name


def test_iou(case):
    expected, reference, prediction = case
    theirs, without = expected["iou"], iou(reference, prediction, empty="nan")
    for name in ("metricsreloaded", "nnunet", "simpleitk"):
        assert without == pytest.approx(finite(theirs[name]), nan_ok=True, **FLOAT64), name
    if reference.any():  # MONAI leaves out what has no reference
        assert without == pytest.approx(finite(theirs["monai"]), **FLOAT32)


def test_precision_and_recall(case):
    expected, reference, prediction = case
    counts = expected["nnunet_counts"]
    claimed, there = counts["tp"] + counts["fp"], counts["tp"] + counts["fn"]
    found = precision(reference, prediction), recall(reference, prediction)
    theirs = (counts["tp"] / claimed if claimed else math.nan, counts["tp"] / there if there else math.nan)
    assert found == pytest.approx(theirs, nan_ok=True)


def test_the_measures_of_simpleitk(case):
    """The golden run had the reference as SimpleITK's source and the prediction as its target.

    Its "false negative error" is then what the prediction added as a share of the prediction, 1 - precision, and its
    "false positive error" what the prediction missed as a share of all voxels outside it.
    """
    expected, reference, prediction = case
    added, missed, similarity = (finite(value) for value in expected["simpleitk_fn_fp_volsim"])
    assert 1 - precision(reference, prediction) == pytest.approx(added, nan_ok=True, **FLOAT64)
    counts = overlap_counts(reference, prediction)
    outside = reference.size - counts.prediction
    if outside and counts.reference + counts.prediction:
        assert (counts.reference - counts.both) / outside == pytest.approx(missed, **FLOAT64)
    volumes = compare_volumes(reference, prediction, (1.0, 1.0, 1.0))
    assert -volumes.difference_to_mean == pytest.approx(similarity, nan_ok=True, **FLOAT64)


def grids(expected, shape_zyx):
    """The two grids of the golden geometry."""
    cos, sin = math.cos(ANGLE), math.sin(ANGLE)
    turned = (cos, -sin, 0, sin, cos, 0, 0, 0, 1)
    origin, spacing = expected["geometry"]["origin"], expected["spacing_xyz_mm"]
    yield "identity", Grid(shape_zyx[::-1], spacing, origin)
    yield "rot_z_0.35rad", Grid(shape_zyx[::-1], spacing, origin, turned)


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_volume_and_centroid_in_space(case, side):
    expected, *pair = case
    mask = pair[side == "pred"]
    for name, grid in grids(expected, mask.shape):
        theirs = expected["geometry"][side][name]
        image = grid.image(mask)
        assert volume_cm3(image) == pytest.approx(theirs["volume_ml"], rel=1e-12)
        centre = theirs["centroid_mm"] or (math.nan,) * 3
        assert centroid_lps(image) == pytest.approx(tuple(centre), abs=1e-9, nan_ok=True)


def test_the_distance_of_centroids(case):
    expected, reference, prediction = case
    theirs = expected["centroid_distance_mm_metricsreloaded"]
    if not (reference.any() and prediction.any()):
        theirs = math.nan  # -1 with them
    for _, grid in grids(expected, reference.shape):
        found = centroid_distance_mm(grid.image(reference), grid.image(prediction))
        assert found == pytest.approx(theirs, nan_ok=True, **FLOAT64)
