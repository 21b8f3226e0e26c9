# SPDX-License-Identifier: Apache-2.0
"""Dice, IoU, precision and recall: counted by hand, for empty masks, and against other packages' results."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import (
    average_overlap,
    centroid_distance_mm,
    compare_volumes,
    dice,
    f_beta,
    icc_a1,
    iou,
    precision,
    recall,
)

METRICS = (dice, iou, precision, recall)
NAN = math.nan


def row_of_voxels(*inside):
    mask = np.zeros((1, 1, 8), dtype=np.uint8)
    mask[..., list(inside)] = 1
    return mask


def test_a_case_counted_by_hand():
    reference, prediction = row_of_voxels(0, 1, 2, 3), row_of_voxels(2, 3, 4)
    assert dice(reference, prediction) == pytest.approx(2 * 2 / (4 + 3))
    assert iou(reference, prediction) == pytest.approx(2 / 5)
    assert precision(reference, prediction) == pytest.approx(2 / 3)
    assert recall(reference, prediction) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (row_of_voxels(), row_of_voxels(), (1.0, 1.0, NAN, NAN)),
        (row_of_voxels(), row_of_voxels(1), (0.0, 0.0, 0.0, NAN)),
        (row_of_voxels(1), row_of_voxels(), (0.0, 0.0, NAN, 0.0)),
        (row_of_voxels(1), row_of_voxels(2), (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_empty_masks_follow_the_table_in_the_docstring(reference, prediction, expected):
    assert [metric(reference, prediction) for metric in METRICS] == pytest.approx(expected, nan_ok=True)


def test_two_empty_masks_have_no_dice_when_nan_is_asked_for():
    empty = row_of_voxels()
    assert all(math.isnan(metric(empty, empty, empty="nan")) for metric in METRICS)
    assert dice(empty, row_of_voxels(1), empty="nan") == 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_four_are_consistent_with_each_other(pairs):
    reference, prediction = (np.array(side).reshape(1, 1, -1) for side in zip(*pairs, strict=True))
    d, j = dice(reference, prediction), iou(reference, prediction)
    assert 0 <= j <= d <= 1
    assert j == pytest.approx(d / (2 - d))
    assert d == dice(prediction, reference)
    assert precision(reference, prediction) == pytest.approx(recall(prediction, reference), nan_ok=True)


def test_any_value_but_zero_is_inside():
    assert dice(np.array([[[0, 2, -1]]], dtype=np.int16), np.array([[[False, True, True]]])) == 1.0


def test_images_on_one_grid_count_like_their_arrays():
    reference, prediction = row_of_voxels(0, 1), row_of_voxels(1, 2)
    images = [sitk.GetImageFromArray(mask) for mask in (reference, prediction)]
    assert dice(*images) == dice(reference, prediction) == 0.5


def test_images_on_different_grids_are_refused():
    first, second = (sitk.GetImageFromArray(row_of_voxels(1)) for _ in range(2))
    second.SetOrigin((0.0, 0.0, 2.0))
    with pytest.raises(ProstateXferError, match="lie on different grids; resample one"):
        dice(first, second)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((1, 8, 1)), "they must be equal"),
        (sitk.GetImageFromArray(row_of_voxels(1)), "an image and a bare array"),
        (np.full((1, 1, 8), np.nan), "not finite"),
        (np.full((1, 1, 8), "x"), "a mask of numbers is needed"),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction, message):
    with pytest.raises(ProstateXferError, match=message):
        iou(row_of_voxels(1), prediction)


def test_an_unknown_rule_for_empty_masks_is_refused():
    with pytest.raises(ProstateXferError, match="use one of best_worst, nan"):
        dice(row_of_voxels(1), row_of_voxels(1), empty="zero")


def test_dice_and_iou_equal_those_of_other_packages(golden_data):
    folder = golden_data / "metrics"
    cases = json.loads((folder / "segmentation.json").read_text(encoding="utf-8"))["cases"]
    masks = np.load(folder / "segmentation.npz")
    for name, case in cases.items():
        reference, prediction = masks[f"{name}__gt"], masks[f"{name}__pred"]
        assert dice(reference, prediction) == pytest.approx(case["monai"]["dice_ignore_empty=False"], abs=1e-6), name
        if reference.any() or prediction.any():
            assert iou(reference, prediction) == pytest.approx(case["metricsreloaded"]["iou"], abs=1e-6), name


def counts_pairs(draw_size=30):
    return st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=draw_size)


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (row_of_voxels(), row_of_voxels(), (1.0, 1.0, 1.0, 1.0, 1.0)),
        (row_of_voxels(), row_of_voxels(1), (0.0,) * 5),
        (row_of_voxels(1), row_of_voxels(), (0.0,) * 5),
    ],
)
def test_a_penalty_gives_every_case_a_number(reference, prediction, expected):
    found = [metric(reference, prediction, empty="penalty") for metric in (*METRICS, f_beta)]
    assert found == list(expected)


@given(counts_pairs(), st.floats(0.2, 5))
def test_f_beta_is_made_of_precision_and_recall(pairs, beta):
    reference, prediction = (np.array(side).reshape(1, 1, -1) for side in zip(*pairs, strict=True))
    p, r = precision(reference, prediction), recall(reference, prediction)
    if p > 0 and r > 0:
        expected = (1 + beta**2) * p * r / (beta**2 * p + r)
        assert f_beta(reference, prediction, beta=beta) == pytest.approx(expected)
    assert f_beta(reference, prediction, beta=1.0) == pytest.approx(dice(reference, prediction))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, NAN])
def test_an_impossible_beta_is_refused(beta):
    with pytest.raises(ProstateXferError, match="a finite beta above zero"):
        f_beta(row_of_voxels(1), row_of_voxels(1), beta=beta)


@given(st.integers(0, 2**32 - 1), st.permutations(range(3)), st.tuples(*[st.integers(-3, 3)] * 3))
def test_overlap_knows_neither_place_nor_order_of_axes(seed, axes, shift):
    random = np.random.default_rng(seed)
    pair = [np.pad(random.random((3, 4, 5)) < 0.4, 3) for _ in range(2)]
    moved = [np.roll(mask, shift, axis=(0, 1, 2)).transpose(axes) for mask in pair]
    doubled = [np.kron(mask, np.ones((1, 2, 2), dtype=bool)) for mask in pair]
    for metric in METRICS:
        assert metric(*moved) == pytest.approx(metric(*pair), nan_ok=True)
        assert metric(*doubled) == pytest.approx(metric(*pair), nan_ok=True)


def two_slices(first, second):
    return np.stack([row_of_voxels(*first)[0], row_of_voxels(*second)[0]])


COHORT = [
    (two_slices((0, 1), ()), two_slices((0, 1), (5,))),  # slices 1 and 0, case 4/5
    (two_slices((), (0, 1, 2, 3)), two_slices((), (0, 1))),  # slices empty and 2/3, case 2/3
]


def test_averages_over_cases_slices_and_pooled_voxels_differ():
    case = average_overlap(COHORT)
    assert (case.mean, case.n_used, case.n_total, case.unit) == (pytest.approx((4 / 5 + 2 / 3) / 2), 2, 2, "cases")
    occupied = average_overlap(iter(COHORT), average="slice")
    assert (occupied.mean, occupied.n_total) == (pytest.approx((1 + 0 + 2 / 3) / 3), 3)
    reference = average_overlap(COHORT, average="slice", slices="reference")
    assert (reference.mean, reference.n_total) == (pytest.approx((1 + 2 / 3) / 2), 2)
    every = average_overlap(COHORT, average="slice", slices="all")
    assert (every.mean, every.n_total) == (pytest.approx((1 + 0 + 1 + 2 / 3) / 4), 4)
    pooled = average_overlap(COHORT, average="pooled")
    assert (pooled.mean, pooled.n_used) == (pytest.approx(2 * 4 / (6 + 5)), 2)


def test_an_average_says_how_many_cases_it_used():
    empty = np.zeros((2, 1, 8))
    both = average_overlap([*COHORT, (empty, empty)], empty="nan")
    assert (both.n_used, both.n_total) == (2, 3)
    assert "(2 of 3 cases)" in str(both)
    assert average_overlap([*COHORT, (empty, empty)], empty="penalty").n_used == 3
    assert average_overlap([(COHORT[0][0], empty)], "precision", average="pooled").n_used == 0


@pytest.mark.parametrize("average", ["case", "slice", "pooled"])
def test_an_average_of_nothing_is_nan(average):
    nothing = average_overlap([], average=average)
    assert math.isnan(nothing.mean)
    assert (nothing.n_used, nothing.n_total) == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "macro"}, "average='macro' is unknown"),
        ({"average": "slice", "slices": "some"}, "slices='some' is unknown"),
        ({"metric": "kappa"}, "no overlap metric 'kappa'"),
        ({"empty": "zero"}, "empty='zero' is unknown"),
    ],
)
def test_unknown_ways_to_average_are_refused(options, message):
    with pytest.raises(ProstateXferError, match=message):
        average_overlap(COHORT, **options)


def test_slices_of_a_plane_are_refused():
    with pytest.raises(ProstateXferError, match="Slices need a volume"):
        average_overlap([(np.ones((3, 3)), np.ones((3, 3)))], average="slice")


def test_two_glands_that_two_networks_drew_agree_as_two_good_readers_do(real_data):
    """Guerbet23 against Bosma22b, with Dice by SimpleITK and the centroid by hand as independent formulas."""
    cases = sorted((real_data / "real" / "prostate_t2w").glob("*/gland_alt.nii.gz"))
    assert cases, "no case with two gland masks"
    pairs, volumes = [], []
    for second in cases:
        pair = [sitk.ReadImage(str(second.with_name(name))) > 0 for name in ("gland.nii.gz", "gland_alt.nii.gz")]
        truth = sitk.LabelOverlapMeasuresImageFilter()
        truth.Execute(*pair)
        found = dice(*pair)
        assert found == pytest.approx(truth.GetDiceCoefficient(1), abs=1e-12)
        assert iou(*pair) == pytest.approx(truth.GetJaccardCoefficient(1), abs=1e-12)
        # One shifted by the distance of the centres still overlaps: two networks on good images.
        assert 0.75 < found < 1.0, second
        centres = []
        for mask in pair:
            z, y, x = np.nonzero(sitk.GetArrayFromImage(mask))
            centres.append(mask.TransformContinuousIndexToPhysicalPoint([float(axis.mean()) for axis in (x, y, z)]))
        assert centroid_distance_mm(*pair) == pytest.approx(math.dist(*centres), abs=1e-6)
        assert centroid_distance_mm(*pair) < 6
        compared = compare_volumes(*pair)
        assert abs(compared.relative_difference) < 0.5
        volumes.append((compared.reference_cm3, compared.prediction_cm3))
        pairs.append(pair)
    over_cases, over_slices = average_overlap(pairs), average_overlap(pairs, average="slice")
    assert over_cases.n_used == len(cases)
    assert over_slices.mean < over_cases.mean  # apex and base are where readers differ
    assert icc_a1(*zip(*volumes, strict=True)).n_used == len(cases)
