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
from ProstateXferLib.metrics import dice, iou, precision, recall

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
    cases = json.loads((folder / "segmentation.json").read_text())["cases"]
    masks = np.load(folder / "segmentation.npz")
    for name, case in cases.items():
        reference, prediction = masks[f"{name}__gt"], masks[f"{name}__pred"]
        assert dice(reference, prediction) == pytest.approx(case["monai"]["dice_ignore_empty=False"], abs=1e-6), name
        if reference.any() or prediction.any():
            assert iou(reference, prediction) == pytest.approx(case["metricsreloaded"]["iou"], abs=1e-6), name
